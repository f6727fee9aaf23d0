"""The 8,192 tokens behind the first prompt: what is found is cut on the right to fit, and never inside a picture."""

import io
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.dialects.table import build
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import Limits, context_needed, context_problem
from lensgraph.agent.nodes import token_budget
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.show import Show
from lensgraph.tools.results import Hit, SearchResult

IMAGE, TEXT, ANSWER = (
    "<reason>r</reason><search><img></search>",
    "<reason>r</reason><text_search>q</text_search>",
    "<reason>r</reason><answer>1987</answer>",
)


class Counting(ScriptedPolicy):
    """Says how long its dialogue is: `first` tokens to begin with, `behind` at its second turn."""

    behind: int = 0

    def _next(self, messages: list[BaseMessage]) -> Any:
        result = super()._next(messages)
        spoken = sum(isinstance(message, AIMessage) for message in messages)
        reply = result.generations[0].message
        read = 1000 + self.behind * bool(spoken)
        reply.usage_metadata = {"input_tokens": read, "output_tokens": 50, "total_tokens": read + 50}
        return result


def pages(count: int, chars: int = 1000) -> list[Hit]:
    return [
        Hit(title=f"page {n}", url=f"https://example.org/{n}", snippet=f"{n} " * (chars // 2)) for n in range(count)
    ]


def thumbnails(count: int, side: int) -> list[Hit]:
    hits = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (side, side), (number * 40, 0, 0)).save(buffer, "PNG")
        hits.append(Hit(title=f"page {number}", url=f"https://example.org/{number}", thumbnail=buffer.getvalue()))
    return hits


async def ask(turns: list[str], behind: int, **fields: Any) -> dict[str, Any]:
    policy = Counting(turns, behind=behind)
    context = testing.context([], policy=policy, dialect="mmsearch_r1", **fields)
    given = {"question": "When?", "images": [Image.new("RGB", (30, 30))]}
    return await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)


async def test_results_that_do_not_fit_are_cut_on_the_right_and_the_trajectory_says_so(capsys: Any) -> None:
    state = await ask([IMAGE, TEXT, ANSWER], 7400, text_search=testing.FixedText(hits=pages(5)))
    record = state["steps"][3]
    assert [hit["title"] for hit in record["hits"]] == ["page 0", "page 1"]
    assert record["hits"][0]["snippet"] == pages(5)[0].snippet
    assert 80 <= len(record["hits"][1]["snippet"]) < 1000
    assert record["cut_off"] == 4
    told = state["dialogue"][-2].content
    assert "page 2" not in told
    assert "https://example.org/1" in told
    assert "https://example.org/2" not in told
    assert told.count("</information>\n") == 1, "the wrapper is whole"
    assert told.rstrip().endswith(build("mmsearch_r1").prompts["after_text_search"].rstrip()[-40:])
    assert token_budget.tokens_of(state["dialogue"][-2], ImageStore(), build("mmsearch_r1"), 1) <= 8192 - 7450
    assert state["answer"] == "1987"
    Show().step(record)
    assert "4 results left out or shortened" in capsys.readouterr().out


async def test_results_that_fit_are_told_whole() -> None:
    state = await ask([IMAGE, TEXT, ANSWER], 500, text_search=testing.FixedText(hits=pages(5)))
    assert len(state["steps"][3]["hits"]) == 5
    assert all("cut_off" not in step for step in state["steps"])


async def test_without_a_count_of_tokens_nothing_is_cut() -> None:
    policy = ScriptedPolicy([TEXT, ANSWER])
    context = testing.context([], policy=policy, dialect="mmsearch_r1", text_search=testing.FixedText(hits=pages(5)))
    state = await search_agent.graph.ainvoke({"question": "?", "images": [Image.new("RGB", (30, 30))]}, context=context)
    assert len(state["steps"][1]["hits"]) == 5


async def test_a_thumbnail_is_shown_whole_or_not_at_all() -> None:
    """784 pixels are a token: five thumbnails of 896 x 896 pixels would take 5,130 of 3,992 that are left."""
    found = testing.FixedImage(hits=thumbnails(5, 896))
    state = await ask([TEXT, IMAGE, ANSWER], 4150, image_search=found)
    record = state["steps"][3]
    assert (len(record["hits"]), record["cut_off"]) == (3, 2)
    blocks = [block["type"] for block in state["dialogue"][-2].content]
    assert blocks.count("image") == 3
    assert state["dialogue"][-2].content[-1]["text"].count("</information>") == 1


async def test_a_search_behind_the_last_token_ends_the_episode() -> None:
    state = await ask([IMAGE, TEXT, ANSWER], 8192)
    assert (state["stop_reason"], state["answer"]) == ("token_limit", None)


@pytest.mark.parametrize("left", [0, 1, -500])
def test_the_first_title_always_stays(left: int) -> None:
    found = SearchResult(kind="text", query="q", hits=pages(3))
    kept, _, touched = token_budget.fit(
        found, [], left, lambda result, _: 10 + sum(len(h.snippet) for h in result.hits), 1200
    )
    assert [(hit.title, hit.snippet) for hit in kept.hits] == [("page 0", "")]
    assert touched == 3


@pytest.mark.parametrize(
    ("tokens", "room", "fits"), [(4096, 0, True), (4097, 0, False), (4095, 1, True), (4096, 1, False)]
)
def test_a_dialogue_that_does_not_fit_the_context_is_told_with_the_fix(tokens: int, room: int, fits: bool) -> None:
    problem = context_problem(tokens, 4096, room=room, policy="a/model")
    assert (problem is None) == fits
    assert fits or f"{tokens} tokens is over the 4096 of a/model; ask a shorter question, or lower limits.turns" in str(
        problem
    )


def test_a_servers_context_holds_the_longest_dialogue() -> None:
    assert context_needed(Limits(tokens=8192), pictures=0, turn=2048) == 4096 + 8192 + 2048
    assert context_needed(Limits(), pictures=1, turn=2048) == 4096 + 8192 + 2048 + 1024, (
        "rounded up; 8192 if none is set"
    )
