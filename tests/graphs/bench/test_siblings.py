"""Trajectories that ask the same share a call, and a recorded run runs again without anybody being asked."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import rag, search_agent
from lensgraph.graphs.bench import siblings
from lensgraph.graphs.program.main import main
from lensgraph.tools.cache import Cache, CacheSettings

TURNS = [
    "<img_search>the tower</img_search>",
    "<text_search>kestrel  automated</text_search>",
    "<text_search>Kestrel Automated</text_search>",
    "<answer>1987</answer>",
]


def test_the_command_shows_20_calls_for_64_trajectories_and_none_for_their_replay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["siblings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "trajectories": 64, "distinct": 20, "calls": 20, "price": 0.1, "right": 64,
        "replay_calls": 0, "replay_price": 0.0, "replay_same": 64,
    }  # fmt: skip


def test_the_command_can_fail() -> None:
    good = {"trajectories": 4, "distinct": 2, "calls": 2, "right": 4, "replay_calls": 0, "replay_same": 4}
    assert siblings.kept(good)
    for key, value in (("calls", 3), ("replay_calls", 1), ("replay_same", 3), ("right", 3)):
        assert not siblings.kept({**good, key: value})


def tools(folder: Path, mode: str) -> dict[str, Any]:
    cache = Cache(CacheSettings(folder=str(folder), mode=mode))
    return {
        "text_search": testing.FixedText(price_per_call=0.1).use_cache(cache),
        "image_search": testing.FixedImage(price_per_call=0.2).use_cache(cache),
        "locate": testing.FixedLocator().use_cache(cache),
    }


async def run(graph: Any, turns: list[str], kit: dict[str, Any]) -> dict[str, Any]:
    given = {"question": "When?", "images": [Image.new("RGB", (40, 40), "navy")]}
    return await graph.ainvoke(given, context=testing.context(turns, "compact", **kit), output_keys=EVERYTHING)


async def test_every_kind_of_tool_is_asked_once_and_replays_as_the_policy_saw_it(tmp_path: Path) -> None:
    kit = tools(tmp_path, "use")
    states = await asyncio.gather(*(run(search_agent.graph, TURNS, kit) for _ in range(64)))
    assert [len(tool.asked) for tool in kit.values()] == [1, 1, 1]
    assert sum(sum(state["usage"]["price"].values()) for state in states) == pytest.approx(0.3)
    assert {state["answer"] for state in states} == {"1987"}
    assert {state["usage"]["searches"]["text"] for state in states} == {2}, "a shared search is still a search"

    again = tools(tmp_path, "replay")
    replayed = await run(search_agent.graph, TURNS, again)
    assert [tool.asked for tool in again.values()] == [[], [], []]
    assert sum(replayed["usage"]["price"].values()) == 0
    told = [message.content for message in states[0]["dialogue"] if isinstance(message, HumanMessage)]
    assert [message.content for message in replayed["dialogue"] if isinstance(message, HumanMessage)] == told
    assert replayed["answer"] == "1987"


async def test_a_replay_of_the_baseline_makes_no_call_either(tmp_path: Path) -> None:
    turns = ["<text_search>q</text_search>", "<answer>1987</answer>"]
    await run(rag.graph, turns, tools(tmp_path, "use"))
    again = tools(tmp_path, "replay")
    assert (await run(rag.graph, turns, again))["answer"] == "1987"
    assert [tool.asked for tool in again.values()] == [[], [], []]


async def test_a_question_that_was_not_recorded_is_told_to_the_policy(tmp_path: Path) -> None:
    await run(search_agent.graph, TURNS, tools(tmp_path, "use"))
    turns = ["<text_search>something else</text_search>", "<answer>I do not know</answer>"]
    state = await run(search_agent.graph, turns, tools(tmp_path, "replay"))
    assert state["stop_reason"] == "answered"
    (search,) = (step for step in state["steps"] if step["node"] == "text_search")
    assert search["error"].startswith("unavailable: FixedText: this question is not in the recorded run")
    assert "not in the recorded run" in state["dialogue"][2].content
