"""Promises of the search agent, numbered where training relies on it.

A red test here asks for a decision: what is trained is what is served, so a change of these changes training.
"""

import asyncio
import io
import itertools
import warnings
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from PIL import Image
from typing_extensions import TypedDict

from lensgraph.agent import testing
from lensgraph.agent.config import load_config
from lensgraph.agent.dialects.compact import Compact
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy import PolicyError
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.tools.results import Box, Hit

PICTURE = Image.new("RGB", (64, 48), "navy")
REGION = "<img_search>the white tower</img_search>"
WHOLE = "<img_search><img></img_search>"
TEXT = "<text_search>kestrel</text_search>"
ANSWER = "<reason>I know.</reason><answer>1987</answer>"


async def ask(turns: Any, dialect: str = "compact", graph: Any = search_agent.graph, **fields: Any) -> dict[str, Any]:
    context = testing.context(turns, dialect, **fields)
    given = {"question": "When was it automated?", "images": [PICTURE]}
    state = await graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    return {**state, "context": context}


PUBLIC = {"messages", "answer", "sources", "usage", "stop_reason", "steps"}


def edges(graph: Any) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in graph.get_graph().edges}


# --- wiring


def test_the_search_agent_draws_exactly_the_legal_edges() -> None:
    tools = {"crop", "image_search", "text_search"}
    legal = {("__start__", "receive"), ("receive", "reason"), ("reason", "answer"), ("answer", "__end__")}
    legal |= {("reason", tool) for tool in tools} | {(tool, "reason") for tool in tools} | {("crop", "image_search")}
    legal |= {("reason", "reason")}  # a mistake that is told to the policy
    assert edges(search_agent.graph) == legal


def test_the_baselines_are_straight_lines() -> None:
    steps = ["__start__", "receive", "reason", "answer", "__end__"]
    assert edges(direct.graph) == set(itertools.pairwise(steps))
    steps = ["__start__", "receive", "image_search", "query", "text_search", "conclude", "answer", "__end__"]
    assert edges(rag.graph) == set(itertools.pairwise(steps))


@pytest.mark.parametrize("module", [search_agent, direct, rag])
def test_input_output_and_settings_have_schemas(module: Any) -> None:
    assert set(module.graph.get_input_jsonschema()["properties"]) == {"messages", "question", "images"}
    output = module.graph.get_output_jsonschema()["properties"]
    assert set(output) == PUBLIC
    settings = module.graph.get_context_jsonschema()["properties"]
    assert "max_turns" in settings
    assert module.graph.get_input_jsonschema()["properties"]["images"]["items"]["type"] == "string"
    assert not {"config", "store", "text_search"} & set(settings), "live objects are no remote settings"


async def test_the_output_has_the_public_keys_only_and_ends_in_the_answer() -> None:
    given = {"question": "When?", "images": [PICTURE]}
    result = await search_agent.graph.ainvoke(given, context=testing.context([TEXT, ANSWER]))
    assert set(result) == PUBLIC
    assert isinstance(result["messages"][0], HumanMessage)
    assert isinstance(result["messages"][-1], AIMessage)
    assert result["messages"][-1].content == result["answer"] == "1987"
    assert result["sources"] == [{"title": testing.PAGE.title, "url": testing.PAGE.url, "turn": 1}]
    assert result["usage"]["turns"] == 2
    assert result["usage"]["searches"] == {"image": 0, "text": 1}
    assert set(result["usage"]["seconds"]) == {"reason", "text_search"}


# --- the dialogue


async def test_1_the_dialogue_only_grows_at_its_end() -> None:
    context = testing.context([REGION, TEXT, TEXT, ANSWER])
    given = {"question": "When?", "images": [PICTURE]}
    before: list[Any] = []
    async for state in search_agent.graph.astream(
        given, context=context, stream_mode="values", output_keys=["dialogue"]
    ):
        now = state.get("dialogue", [])
        assert now[: len(before)] == before
        before = now
    assert [message.type for message in before] == ["human", "ai"] * 4
    # and each call of the policy extends the last one
    calls = [[(m.type, str(m.content)) for m in call] for call in context.policy.seen]
    for earlier, later in itertools.pairwise(calls):
        assert later[: len(earlier)] == earlier


async def test_2_the_policys_messages_are_kept_as_it_returned_them() -> None:
    class Recording(testing.ScriptedPolicy):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            result.generations[0].message.response_metadata["token_ids"] = [1, 2, len(self.seen)]
            return result

    state = await ask([], policy=Recording([TEXT, ANSWER]))
    said = [message for message in state["dialogue"] if message.type == "ai"]
    assert [message.content for message in said] == [TEXT, ANSWER]
    assert [message.response_metadata["token_ids"] for message in said] == [[1, 2, 1], [1, 2, 2]]


async def test_3_pictures_are_ids_in_the_state_and_bytes_for_the_policy() -> None:
    state = await ask([REGION, ANSWER])
    stored = state["dialogue"][0].content[0]
    assert set(stored) == {"type", "id"}
    seen = state["context"].policy.seen[-1][0].content[0]
    assert seen["id"] == stored["id"]
    assert seen["base64"]
    assert seen["mime_type"] == "image/png"


async def test_4_one_record_a_node_visit_tells_the_whole_story() -> None:
    state = await ask(["<reason>Which tower?</reason>" + REGION, TEXT, ANSWER])
    story = [(step["node"], step["turn"]) for step in state["steps"]]
    assert story == [
        ("reason", 1), ("crop", 1), ("image_search", 1), ("reason", 2), ("text_search", 2), ("reason", 3),
    ]  # fmt: skip
    first, crop, search, *_ = state["steps"]
    assert (first["thought"], first["action"]) == (
        "Which tower?",
        {"kind": "image_search", "region": "the white tower"},
    )
    assert crop["crop"]["box"] == [8, 8, 24, 24]
    assert crop["crop"]["parent"] == state["pictures"][0]["id"]
    assert search["crop"] == crop["crop"]
    assert search["hits"][0]["title"] == testing.PAGE.title
    assert all(step["error"] is None and step["seconds"] >= 0 for step in state["steps"])


# --- observations of the compact dialect


async def test_the_compact_dialect_writes_few_tokens() -> None:
    hits = [
        testing.PAGE,
        Hit(title="Visiting", url="https://example.org/v", snippet="Open daily.\nFree: yes", score=0.5),
    ]
    tools = {"text_search": testing.FixedText(hits=hits), "image_search": testing.FixedImage(hits=hits)}
    state = await ask([REGION, TEXT, ANSWER], **tools)
    opening, _, image, _, text, _ = [message.content for message in state["dialogue"]]
    assert [block["type"] for block in opening] == ["image", "text"]
    assert opening[1]["text"] == "When was it automated?"
    assert [block["type"] for block in image] == ["image", "text"], "the crop comes first"
    found = ["1. Kestrel Point Light (0.90)", "2. Visiting (0.50)"]
    assert image[1]["text"] == "<information>" + "\n".join(found[: Compact.image_hits]) + "</information>"
    pages = ["1. Kestrel Point Light\nAutomated in 1987.", "2. Visiting\nOpen daily. Free: yes"]
    shown = "\n".join(pages[: Compact.text_hits])
    assert text == f"<information>{shown}</information>"


@pytest.mark.parametrize(("dialect", "settings", "shown"), [
    ("compact", [], 1), ("compact", ["tools.text_search.k=3"], 3), ("deepmmsearch_r1", [], 5),
    ("deepmmsearch_r1", ["tools.text_search.k=2"], 2), ("compact", ["tools.image_search.k=3"], 1),
])  # fmt: skip
async def test_as_many_results_are_shown_as_are_asked_for_or_else_as_the_dialect_prescribes(
    dialect: str, settings: list[str], shown: int
) -> None:
    hits = [Hit(title=f"Page {n}", url=f"https://example.org/{n}", snippet="x") for n in range(9)]
    config = load_config(overrides=settings, environ={})
    turns = [f"<reason>r</reason>{turn}" for turn in (TEXT, ANSWER)]
    state = await ask(turns, dialect, text_search=testing.FixedText(hits=hits), config=config)
    assert len(state["steps"][1]["hits"]) == shown
    assert state["dialogue"][2].content.count("Page ") == shown


async def test_a_search_with_the_whole_picture_does_not_show_it_again() -> None:
    state = await ask([WHOLE, ANSWER])
    assert state["dialogue"][2].content == "<information>1. Kestrel Point Light (0.90)</information>"
    assert state["context"].image_search.asked == [PICTURE.size]


async def test_the_crop_action_shows_a_region_without_searching() -> None:
    state = await ask(["<crop>the lamp</crop>", ANSWER])
    assert [step["node"] for step in state["steps"]] == ["reason", "crop", "reason"]
    assert state["dialogue"][2].content == [{"type": "image", "id": state["steps"][1]["crop"]["id"]}]
    assert state["usage"]["searches"] == {"image": 0, "text": 0}


# --- failures are observations


async def test_5_a_failed_tool_is_told_to_the_policy_and_recorded() -> None:
    state = await ask(
        [WHOLE, TEXT, ANSWER], image_search=testing.FixedImage(hits=[]), text_search=testing.FixedText(hits=[])
    )
    assert state["dialogue"][2].content == "<information>error: the image search is down</information>"
    assert state["dialogue"][4].content == "<information>error: the text search is down</information>"
    assert [step["error"] for step in state["steps"] if "hits" in step] == [
        "unavailable: the image search is down",
        "unavailable: the text search is down",
    ]
    assert state["stop_reason"] == "answered"
    assert state["sources"] == []
    assert state["usage"]["searches"] == {"image": 1, "text": 1}, "a failed search has been made"


@pytest.mark.parametrize("turn", [REGION, "<crop>the lamp</crop>"])
async def test_6_a_region_that_is_not_found_is_told_and_no_search_is_made(turn: str) -> None:
    state = await ask([turn, ANSWER], locate=testing.FixedLocator(box=None))
    assert state["dialogue"][2].content.startswith("<information>error: Nothing in the picture matches")
    assert state["context"].image_search.asked == []
    assert state["stop_reason"] == "answered"


async def test_a_box_outside_the_picture_is_a_failed_location() -> None:
    outside = testing.FixedLocator(box=Box(left=500, top=500, right=600, bottom=600))
    state = await ask([REGION, ANSWER], locate=outside)
    assert state["steps"][1]["error"].startswith("malformed:")
    assert state["stop_reason"] == "answered"


async def test_a_question_about_a_sliver_is_refused_in_one_line() -> None:
    with pytest.raises(BadInput, match="5000x2 pixels is a sliver"):
        await search_agent.graph.ainvoke(
            {"question": "?", "images": [Image.new("RGB", (5000, 2))]}, context=testing.context([ANSWER])
        )


async def test_a_thumbnail_that_is_a_sliver_costs_only_itself() -> None:
    """Two results with thumbnails, one of them 900 x 3: the other is shown, and both keep their titles."""
    hits = [
        Hit(title=title, url=f"https://example.org/{title}", thumbnail=_png(size))
        for title, size in (("Line", (900, 3)), ("Tower", (90, 60)))
    ]
    turns = ["<reason>r</reason><search><img></search>", ANSWER]
    state = await ask(turns, "mmsearch_r1", image_search=testing.FixedImage(hits=hits))
    shown = [block for block in state["dialogue"][2].content if isinstance(block, dict) and block["type"] == "image"]
    assert [state["context"].store.picture(block["id"])["width"] for block in shown] == [90]
    assert "Line" in str(state["dialogue"][2].content) and "Tower" in str(state["dialogue"][2].content)
    assert state["stop_reason"] == "answered"


@pytest.mark.parametrize("turn", [REGION, "<crop>the lamp</crop>"])
async def test_a_crop_that_is_a_sliver_is_told_and_no_search_is_made(turn: str) -> None:
    context = testing.context([turn, ANSWER], locate=testing.FixedLocator(box=Box(left=0, top=0, right=402, bottom=2)))
    given = {"question": "?", "images": [Image.new("RGB", (500, 50), "navy")]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert "402x2 pixels is a sliver" in state["steps"][1]["error"]
    assert "402x2 pixels is a sliver" in state["dialogue"][2].content
    assert context.image_search.asked == []
    assert state["stop_reason"] == "answered"


async def test_a_tool_that_breaks_the_langchain_way_is_a_failed_tool() -> None:
    class Broken(testing.FixedText):
        async def _arun(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("boom\nwith details")

    state = await ask([TEXT, ANSWER], text_search=Broken())
    assert state["steps"][1]["error"] == "unavailable: text_search: RuntimeError: boom"
    assert state["stop_reason"] == "answered"


async def test_a_policy_that_cannot_be_reached_ends_the_episode_with_its_reason() -> None:
    def fail(messages: Any) -> str:
        raise PolicyError("http://127.0.0.1:1: connection refused")

    state = await ask(fail)
    assert (state["stop_reason"], state["answer"]) == ("policy_failed", None)
    assert state["steps"][0]["error"] == "policy: http://127.0.0.1:1: connection refused"


async def test_a_bug_in_a_policy_is_not_swallowed() -> None:
    def fail(messages: Any) -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        await ask(fail)


# --- limits


async def test_7_the_compact_dialect_tells_the_policy_that_a_kind_of_search_is_used_up() -> None:
    state = await ask([WHOLE, WHOLE, WHOLE, TEXT, ANSWER])
    assert state["dialogue"][6].content == (
        "<information>error: no image searches left; answer with what you know</information>"
    )
    assert state["usage"]["searches"] == {"image": 2, "text": 1}
    assert state["steps"][5] == {
        "node": "image_search", "turn": 3, "seconds": 0.0, "price": 0.0, "query": "<whole picture>",
        "error": "refused: no image searches left; answer with what you know",
    }  # fmt: skip
    assert state["stop_reason"] == "answered"


async def test_8_the_last_turn_may_only_answer() -> None:
    state = await ask([TEXT, TEXT, TEXT, WHOLE, WHOLE, TEXT])
    assert (state["stop_reason"], state["answer"]) == ("turn_limit", None)
    assert state["usage"]["turns"] == 6
    assert state["usage"]["searches"] == {"image": 2, "text": 3}


@pytest.mark.parametrize(
    ("options", "turns", "stop", "searches"),
    [
        ({"max_turns": 1}, [TEXT], "turn_limit", {"image": 0, "text": 0}),
        ({"max_turns": 2}, [TEXT, TEXT], "turn_limit", {"image": 0, "text": 1}),
        ({"max_text_searches": 0}, [TEXT, ANSWER], "answered", {"image": 0, "text": 0}),
        ({"max_image_searches": 0}, [REGION, ANSWER], "answered", {"image": 0, "text": 0}),
    ],
)
async def test_limits_can_be_set_for_one_run(
    options: dict[str, int], turns: list[str], stop: str, searches: dict[str, int]
) -> None:
    state = await ask(turns, **options)
    assert (state["stop_reason"], state["usage"]["searches"]) == (stop, searches)


@pytest.mark.parametrize("turn", ["", "hello", "<answer>x", "<answer>x</answer> or so", "<img_search></img_search>"])
async def test_9_a_turn_that_cannot_be_read_ends_the_episode(turn: str) -> None:
    state = await ask([turn])
    assert (state["stop_reason"], state["answer"]) == ("malformed", None)
    assert state["messages"][-1].content == "I have no answer: the policy's last turn could not be read."


async def test_giving_up_is_not_an_answer() -> None:
    state = await ask(["<answer>Unable to answer due to lack of relevant information.</answer>"])
    assert (state["stop_reason"], state["answer"]) == ("gave_up", None)


async def test_an_empty_answer_is_an_answer() -> None:
    state = await ask(["<answer></answer>"])
    assert (state["stop_reason"], state["answer"]) == ("answered", "")


# --- pictures


async def test_a_crop_is_searched_at_the_originals_resolution_and_viewed_under_the_cap() -> None:
    store = ImageStore()
    big = Image.effect_noise((800, 600), 50).convert("RGB")
    locator = testing.FixedLocator(box=Box(left=100, top=50, right=500, bottom=350))
    config = load_config(overrides=["images.view_pixels=30000"], environ={})
    context = testing.context([REGION, ANSWER], locate=locator, store=store, config=config)
    state = await search_agent.graph.ainvoke(
        {"question": "?", "images": [big]}, context=context, output_keys=EVERYTHING
    )
    assert context.image_search.asked == [(400, 300)]
    crop = state["steps"][1]["crop"]
    assert store.open(crop["id"]).tobytes() == big.crop((100, 50, 500, 350)).tobytes()
    import base64

    view = Image.open(io.BytesIO(base64.b64decode(context.policy.seen[0][0].content[0]["base64"])))
    assert view.size == (200, 150)


async def test_with_two_pictures_the_surest_region_of_either_is_cut_out() -> None:
    from lensgraph.tools.results import LocateResult, Region

    class Surer(testing.FixedLocator):
        async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
            score = 0.9 if image.width == 100 else 0.2
            box = Box(left=0, top=0, right=10, bottom=10)
            return LocateResult(expression=expression, regions=[Region(box=box, score=score)])

    context = testing.context([REGION, ANSWER], locate=Surer())
    given = {"question": "?", "images": [PICTURE, Image.new("RGB", (100, 100))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert [block["type"] for block in state["dialogue"][0].content] == ["image", "image", "text"]
    assert state["steps"][1]["crop"]["parent"] == state["pictures"][1]["id"]


async def test_a_question_without_a_picture_can_still_search_by_text() -> None:
    context = testing.context([WHOLE, REGION, TEXT, ANSWER])
    state = await search_agent.graph.ainvoke({"question": "When?"}, context=context, output_keys=EVERYTHING)
    assert state["dialogue"][0].content == "When?\n(No picture came with this question.)"
    assert state["dialogue"][2].content == "<information>error: there is no picture to search with</information>"
    assert state["dialogue"][4].content == "<information>error: there is no picture to look at</information>"
    assert state["answer"] == "1987"


# --- threads


class Continued(Compact):
    """For a policy that can hold a longer conversation."""

    follow_up = "continue"


async def test_a_follow_up_continues_the_dialogue_and_has_its_own_budget() -> None:
    graph = search_agent.build(InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    context = testing.context([TEXT, TEXT, TEXT, ANSWER, TEXT, "<answer>Kestrel</answer>"], Continued())
    picture = context.store.add_image(PICTURE)["id"]
    first = await graph.ainvoke({"question": "When?", "images": [picture]}, thread, context=context)
    assert first["usage"]["searches"]["text"] == 3
    follow_up = {"messages": [HumanMessage("And what is it called?")]}
    second = await graph.ainvoke(follow_up, thread, context=context, output_keys=EVERYTHING)
    assert second["answer"] == "Kestrel"
    assert second["usage"]["turns"] == 2
    assert second["usage"]["searches"] == {"image": 0, "text": 1}, (
        "an earlier question's searches are not counted again"
    )
    assert [message.type for message in second["messages"]] == ["human", "ai", "human", "ai"]
    assert [p["id"] for p in second["pictures"]] == [picture], "the follow-up is about the same picture"
    assert second["dialogue"][8].content == "And what is it called?"
    assert len(context.policy.seen[-1]) == 11, "the policy sees the whole dialogue"


@pytest.mark.parametrize("graph", [search_agent, rag, direct])
async def test_a_dialect_of_single_questions_opens_a_new_dialogue_with_the_threads_picture(graph: Any) -> None:
    """`dialogue` stays append-only; what is new is where the policy's view of it starts."""
    turns = {search_agent: [TEXT, ANSWER], rag: [TEXT, ANSWER], direct: [ANSWER]}[graph]
    context = testing.context(turns)
    compiled, thread = graph.build(InMemorySaver()), {"configurable": {"thread_id": "1"}}
    picture = context.store.add_image(PICTURE)["id"]
    first = await compiled.ainvoke(
        {"question": "When?", "images": [picture]}, thread, context=context, output_keys=EVERYTHING
    )
    second = await compiled.ainvoke({"question": "Where?"}, thread, context=context, output_keys=EVERYTHING)
    assert second["answer"] == "1987"
    length = len(first["dialogue"])
    assert second["dialogue"][:length] == first["dialogue"]
    opening, seen = second["dialogue"][length], context.policy.seen[-1]
    assert [block["id"] for block in opening.content if block["type"] == "image"] == [picture]
    assert "Where?" in seen[0].text and "base64" in seen[0].content[0]
    assert not any("When?" in message.text for message in seen), "the policy sees one question"
    assert [len(question["messages"]) for question in (first, second)] == [2, 4]


async def test_checkpoints_hold_ids_and_no_picture() -> None:
    saver = InMemorySaver()
    graph = search_agent.build(saver)
    thread: Any = {"configurable": {"thread_id": "1"}}
    context = testing.context([REGION, ANSWER])
    picture = context.store.add_image(Image.effect_noise((300, 300), 90).convert("RGB"))["id"]
    await graph.ainvoke({"question": "When?", "images": [picture]}, thread, context=context)
    size = sum(len(blob[1]) for blob in saver.blobs.values()) + sum(
        len(write[2][1]) for writes in saver.writes.values() for write in writes.values()
    )
    assert size < 60_000, "the picture alone has over 200 kB"
    history = [state async for state in graph.aget_state_history(thread)]
    assert not any("base64" in str(state.values) for state in history)


async def test_a_message_with_a_picture_leaves_the_state_as_an_id() -> None:
    block = {"type": "image", "base64": _base64(), "mime_type": "image/png"}
    given = {"messages": [HumanMessage([block, {"type": "text", "text": "When?"}], id="m1")]}
    context = testing.context([ANSWER])
    result = await search_agent.graph.ainvoke(given, context=context)
    assert result["messages"][0].id == "m1"
    assert len(result["messages"]) == 2
    assert set(result["messages"][0].content[0]) == {"type", "id"}


async def test_a_client_that_sends_the_whole_chat_gets_its_earlier_picture_searched() -> None:
    block = {"type": "image", "base64": _base64(), "mime_type": "image/png"}
    chat = [HumanMessage([block, {"type": "text", "text": "When?"}]), AIMessage("1987"), HumanMessage("Where?")]
    context = testing.context([WHOLE, ANSWER])
    await search_agent.graph.ainvoke({"messages": chat}, context=context)
    assert context.image_search.asked == [PICTURE.size]


async def test_many_runs_share_nothing_but_the_process() -> None:
    async def one(number: int) -> str:
        context = testing.context([WHOLE, f"<answer>{number}</answer>"])
        result = await search_agent.graph.ainvoke(
            {"question": str(number), "images": [Image.new("RGB", (20 + number, 20))]}, context=context
        )
        assert context.image_search.asked == [(20 + number, 20)]
        return str(result["answer"])

    answers = await asyncio.gather(*(one(number) for number in range(24)))
    assert answers == [str(number) for number in range(24)]


def _png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "olive").save(buffer, "PNG")
    return buffer.getvalue()


def _base64() -> str:
    import base64

    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


# --- inside other graphs


class ParentState(TypedDict):
    messages: list[Any]
    answer: str


@pytest.mark.parametrize("options", [None, {"tenant": "a"}])
async def test_the_graph_is_a_node_of_another_graph_whatever_its_context(
    options: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent's context is not ours: everything is as configured then."""
    context = testing.context([TEXT, ANSWER])
    monkeypatch.setattr("lensgraph.agent.context._default_context", lambda: context)
    parent = StateGraph(ParentState, context_schema=dict)
    parent.add_node("look", search_agent.graph)
    parent.add_edge(START, "look")
    result = await parent.compile().ainvoke({"messages": [HumanMessage("When?")]}, context=options)
    assert result["answer"] == "1987"


async def test_the_graph_is_a_tool_of_another_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    context = testing.context([WHOLE, ANSWER])
    monkeypatch.setattr("lensgraph.agent.context._default_context", lambda: context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as_tool is in beta
        arguments = {"question": str, "images": list[str]}
        tool = search_agent.graph.as_tool(
            arg_types=arguments, name="look", description="Answer a question about a picture."
        )
    picture = context.store.add_image(PICTURE)["id"]
    result = await tool.ainvoke({"question": "When?", "images": [picture]})
    assert result["answer"] == "1987"
    assert set(tool.args) == {"question", "images"}


# --- baselines


async def test_direct_never_searches() -> None:
    state = await ask(["<answer>1987</answer>"], graph=direct.graph)
    assert (state["answer"], state["usage"]["turns"]) == ("1987", 1)
    assert state["dialogue"][0].content[1]["text"] == "When was it automated?\nAnswer now."
    state = await ask([TEXT], graph=direct.graph)
    assert (state["answer"], state["stop_reason"]) == (None, "search_limit")
    assert state["context"].text_search.asked == []


async def test_rag_always_searches_twice() -> None:
    state = await ask([TEXT, ANSWER], graph=rag.graph)
    assert state["usage"]["searches"] == {"image": 1, "text": 1}
    assert state["dialogue"][0].content[1]["text"] == (
        "When was it automated?\nSearch results:<information>1. Kestrel Point Light (0.90)</information>"
    )
    assert (state["answer"], state["stop_reason"]) == ("1987", "answered")
    assert [source["turn"] for source in state["sources"]] == [0]


async def test_rag_searches_with_the_question_when_the_policy_writes_no_query() -> None:
    state = await ask([ANSWER, ANSWER], graph=rag.graph)
    assert state["context"].text_search.asked == ["When was it automated?"]
    assert state["answer"] == "1987"


@pytest.mark.parametrize("dialect", ["mmsearch_r1", "deepmmsearch_r1"])
async def test_the_baselines_speak_the_published_dialects(dialect: str) -> None:
    state = await ask([TEXT, ANSWER], dialect, graph=rag.graph)
    assert state["stop_reason"] == "answered"
    assert "Kestrel Point Light" in str(state["dialogue"][0].content)
    assert "1987" in str(state["dialogue"][2].content)
    assert (await ask([ANSWER], dialect, graph=direct.graph))["answer"] == "1987"


async def test_a_region_that_was_only_looked_at_is_not_what_a_later_search_is_made_with() -> None:
    state = await ask(["<crop>the tower</crop>", WHOLE, ANSWER])
    assert state["context"].image_search.asked == [PICTURE.size]
    assert [step.get("crop") is None for step in state["steps"] if step["node"] == "image_search"] == [True]
