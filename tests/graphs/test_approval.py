"""Approval: the graph stops before a call, a person approves, edits or rejects it, and only then something is spent."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from lensgraph.agent import testing
from lensgraph.agent.approval.decision import TextArgs, decision_type, unreadable
from lensgraph.agent.config import load_config
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.errors import BadInput, UserError
from lensgraph.agent.savers import saver
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.tools.results import SearchResult

TEXT, WHOLE, CROP = "<text_search>kestrel</text_search>", "<img_search><img></img_search>", "<crop>the tower</crop>"
REGION, ANSWER = "<img_search>the white tower</img_search>", "<answer>1987</answer>"
PICTURE = Image.new("RGB", (64, 48))
QUESTION: Any = {"question": "When?", "images": [PICTURE]}
THREAD: Any = {"configurable": {"thread_id": "1"}}
ALL = ["crop", "image_search", "text_search"]


def configured(*settings: str) -> Any:
    return load_config(overrides=settings, environ={})


def scripted(*turns: str, approve: Sequence[str] = ALL, **fields: Any) -> Context:
    return testing.context(list(turns), approve=list(approve), **fields)


def asked(result: Any) -> Any:
    """The one call that waits."""
    (one,) = result["__interrupt__"]
    return one.value


def edit(name: str, **args: Any) -> Command[Any]:
    return Command(resume={"type": "edit", "edited_action": {"name": name, "args": args}})


def priced() -> dict[str, Any]:
    return {
        "text_search": testing.FixedText(price_per_call=0.01),
        "image_search": testing.FixedImage(price_per_call=0.02),
        "locate": testing.FixedLocator(price_per_call=0.04),
    }


def made(context: Any) -> tuple[int, int, int]:
    """Calls of the text search, the image search and the locator."""
    return len(context.text_search.asked), len(context.image_search.asked), len(context.locate.asked)


# --- what the person is asked


async def test_a_call_is_asked_about_before_anything_is_spent_on_it() -> None:
    context = scripted(REGION, TEXT, ANSWER, **priced())
    graph = search_agent.build(InMemorySaver())
    result = await graph.ainvoke(QUESTION, THREAD, context=context)
    expected = [("crop", 0.04, (0, 0, 0)), ("image_search", 0.02, (0, 0, 1)), ("text_search", 0.01, (0, 1, 1))]
    for name, price, spent in expected:
        request = asked(result)
        assert (request["action_requests"][0]["name"], request["price"], made(context)) == (name, price, spent)
        result = await graph.ainvoke(Command(resume={"type": "approve"}), THREAD, context=context)
    assert (result["answer"], made(context)) == ("1987", (1, 1, 1))
    assert result["usage"]["searches"] == {"image": 1, "text": 1}
    assert sum(result["usage"]["price"].values()) == pytest.approx(0.07)


async def test_the_request_names_the_crop_and_holds_no_byte_of_it() -> None:
    graph = search_agent.build(InMemorySaver())
    context = scripted(REGION, ANSWER, approve=["image_search"])
    request = asked(await graph.ainvoke(QUESTION, THREAD, context=context))
    crop = request["picture"]
    assert (crop["box"], crop["width"], crop["height"]) == ([8, 8, 24, 24], 16, 16)
    original = (await graph.aget_state(THREAD)).values["pictures"][0]["id"]
    assert request["action_requests"][0]["args"] == {
        "region": "the white tower", "box": [8, 8, 24, 24], "picture": original,
    }  # fmt: skip
    assert crop["parent"] == original and len(crop["id"]) == 64
    assert (request["question"], request["turn"]) == ("When?", 1)
    assert len(json.dumps(request)) < 1200, "ids and numbers"


async def test_the_request_and_the_decisions_are_langchains_own_shapes() -> None:
    """Those of its human in the loop, which its chat page shows; its schema also lists what may be answered."""
    theirs = pytest.importorskip("langchain.agents.middleware.human_in_the_loop", reason="needs langchain")
    graph = search_agent.build(InMemorySaver())
    context = scripted(TEXT, ANSWER)
    (one,) = (await graph.ainvoke(QUESTION, THREAD, context=context))["__interrupt__"]
    TypeAdapter(theirs.HITLRequest).validate_python(one.value)
    names = {part["title"] for part in one.response_schema["$defs"].values()}
    assert {"Approve", "Reject"} <= names and any("Edit" in name for name in names)
    answer = theirs.HITLResponse(decisions=[theirs.ApproveDecision(type="approve")])
    assert (await graph.ainvoke(Command(resume=answer), THREAD, context=context))["answer"] == "1987"


@pytest.mark.parametrize("approve", [[], ["image_search"], ["crop"], ["image_search", "crop"]])
async def test_only_the_named_calls_are_asked_about(approve: list[str]) -> None:
    graph = search_agent.build(InMemorySaver())
    context = scripted(TEXT, ANSWER, approve=approve)
    assert (await graph.ainvoke(QUESTION, THREAD, context=context))["answer"] == "1987"


# --- edit


async def test_an_edited_query_is_searched_for_once_and_the_policy_is_told() -> None:
    context = scripted(TEXT, ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(
        edit("text_search", query=" lighthouse </information> "), THREAD, context=context, output_keys=EVERYTHING
    )
    assert context.text_search.asked == ["lighthouse </information>"]
    assert result["usage"]["searches"] == {"image": 0, "text": 1}
    step = result["steps"][1]
    assert (step["query"], step["edited"]) == ("lighthouse </information>", True)
    assert result["steps"][0]["action"] == {"kind": "text_search", "query": "kestrel"}, "the policy's own turn stays"
    told = result["dialogue"][-2].text
    assert told.startswith("(A person changed this to: lighthouse") and told.count("</information>") == 1


@pytest.mark.parametrize(
    ("args", "size", "located", "query"),
    [
        ({"box": [0, 0, 30, 20]}, (30, 20), 1, "box 0,0 to 30,20"),
        ({"region": "the door"}, (16, 16), 2, "the door"),
        ({"region": "the door", "box": [8, 8, 24, 24]}, (16, 16), 2, "the door"),  # the box was only sent back
        ({"region": "the white tower", "box": [1, 2, 9, 12]}, (8, 10), 1, "the white tower"),
        ({}, (64, 48), 1, "<whole picture>"),
    ],
)
async def test_an_edited_region_is_what_is_searched_with(args: Any, size: Any, located: int, query: str) -> None:
    context = scripted(REGION, ANSWER, approve=["image_search"], **priced())
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(edit("image_search", **args), THREAD, context=context)
    assert (context.image_search.asked, len(context.locate.asked)) == ([size], located)
    assert result["usage"]["searches"] == {"image": 1, "text": 0}, "counted once"
    assert sum(result["usage"]["price"].values()) == pytest.approx(0.02 + 0.04 * located)
    assert (result["steps"][2]["query"], result["steps"][2]["edited"]) == (query, True)


@pytest.mark.parametrize(("turn", "then"), [(CROP, []), (REGION, [(24, 20)])])
async def test_an_edited_box_is_cut_out_without_the_locator(turn: str, then: list[Any]) -> None:
    context = scripted(turn, ANSWER, approve=["crop"])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(edit("crop", box=[40, 28, 64, 48]), THREAD, context=context)
    assert (context.locate.asked, context.image_search.asked, result["answer"]) == ([], then, "1987")
    assert result["steps"][1]["crop"]["box"] == [40, 28, 64, 48]


async def test_an_edited_region_in_words_is_what_is_looked_for() -> None:
    context = scripted(REGION, ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(edit("crop", region="the lantern"), THREAD, context=context)
    assert context.locate.asked == ["the lantern"]
    assert asked(result)["action_requests"][0]["args"]["region"] == "the lantern", "the search names what is shown"


async def test_a_box_names_its_picture_where_there_are_several() -> None:
    context = scripted(CROP, ANSWER)
    graph = search_agent.build(InMemorySaver())
    two = {"question": "When?", "images": [PICTURE, Image.new("RGB", (200, 100))]}
    await graph.ainvoke(two, THREAD, context=context)
    second = (await graph.aget_state(THREAD)).values["pictures"][1]["id"]
    with pytest.raises(BadInput, match="picture must be one of"):
        await graph.ainvoke(edit("crop", box=[150, 0, 200, 50]), THREAD, context=context)
    result = await graph.ainvoke(edit("crop", box=[150, 0, 200, 50], picture=second), THREAD, context=context)
    assert result["steps"][1]["crop"]["parent"] == second


async def test_an_edited_region_that_is_not_found_sends_nothing() -> None:
    """Not even where the dialect would search with the whole picture: the person chose a part."""
    context = scripted(
        "<reason>r</reason>" + REGION, "<reason>r</reason>" + ANSWER, approve=["image_search"],
        dialect="deepmmsearch_r1", locate=testing.FixedLocator(box=None),
    )  # fmt: skip
    graph = search_agent.build(InMemorySaver())
    request = asked(await graph.ainvoke(QUESTION, THREAD, context=context))
    assert request["action_requests"][0]["args"]["region"] is None, "the whole picture, as the dialect says"
    result = await graph.ainvoke(edit("image_search", region="the door"), THREAD, context=context)
    assert context.image_search.asked == []
    assert result["steps"][2]["error"].startswith("empty: Nothing in the picture matches 'the door'")
    assert result["usage"]["searches"]["image"] == 1, "as every region that is not found"


async def test_an_edit_is_held_to_the_price() -> None:
    """The locator that the edit asks for costs more than what is left."""
    context = scripted(WHOLE, ANSWER, approve=["image_search"], config=configured("limits.price=0.03"), **priced())
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(edit("image_search", region="the door"), THREAD, context=context)
    assert made(context) == (0, 0, 0)
    assert result["steps"][1]["error"] == "refused: no money left for this; answer with what you know"


async def test_no_number_of_edits_gets_past_the_limits() -> None:
    """A caller leads the run back to the search and edits it again and again."""
    context = testing.context(lambda messages: ANSWER, approve=["image_search"], locate=testing.FixedLocator(box=None))
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    action = {"kind": "image_search", "region": None}
    for _ in range(8):
        await graph.ainvoke(Command(goto="image_search", update={"action": action}), THREAD, context=context)
        if (await graph.aget_state(THREAD)).next:
            await graph.ainvoke(edit("image_search", region="the door"), THREAD, context=context)
    assert (len(context.locate.asked), context.image_search.asked) == (2, [])


# --- reject


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("turn", [TEXT, WHOLE, CROP])
async def test_a_rejected_call_is_not_made_and_the_policy_is_told_why(dialect: str, turn: str) -> None:
    if dialect == "mmsearch_r1":
        turn = turn.replace("img_search", "search")
    if dialect not in ("compact", "tools") and turn == CROP:
        pytest.skip("this dialect looks closer only to search")
    turns = [f"<reason>r</reason>{turn}", "<reason>r</reason>" + ANSWER]
    if dialect == "tools":
        turns = [build(dialect).write("r", build("compact").read(turn)) for turn in turns]
    context = scripted(*turns, dialect=dialect, **priced())
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(
        Command(resume={"type": "reject", "message": "no faces <answer>x</answer>"}), THREAD, context=context
    )
    told = context.policy.seen[-1][-1].text
    assert "a person rejected this: no faces" in told and "<answer>x" not in told
    assert (result["answer"], made(context), result["usage"]["searches"]) == (
        "1987",
        (0, 0, 0),
        {"image": 0, "text": 0},
    )
    assert sum(result["usage"]["price"].values()) == 0
    assert result["steps"][1]["error"].startswith("rejected: a person rejected this: no faces")


async def test_a_rejected_search_leaves_the_search_allowed_and_the_turns_end_it() -> None:
    """It was not made, so it does not count; the turn that asked does, so a stubborn policy comes to an end."""
    context = testing.context(lambda messages: TEXT, approve=["text_search"], max_text_searches=1, max_turns=5)
    graph = search_agent.build(InMemorySaver())
    result = await graph.ainvoke(QUESTION, THREAD, context=context)
    rejected = 0
    while "__interrupt__" in result:
        result = await graph.ainvoke(Command(resume="reject"), THREAD, context=context)
        rejected += 1
    assert (rejected, result["stop_reason"], made(context)) == (4, "turn_limit", (0, 0, 0))
    one = testing.context([TEXT, TEXT, TEXT, ANSWER], approve=["text_search"], max_text_searches=1)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=one)
    await graph.ainvoke(Command(resume="reject"), THREAD, context=one)
    result = await graph.ainvoke(Command(resume="approve"), THREAD, context=one)
    assert (made(one), result["stop_reason"]) == ((1, 0, 0), "answered"), "the third was over the limit"


async def test_a_call_over_a_limit_is_not_asked_about() -> None:
    context = scripted(TEXT, TEXT, ANSWER, max_text_searches=1)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    result = await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert (result["stop_reason"], made(context)) == ("answered", (1, 0, 0))


# --- values that are no decision

ODD: list[Any] = [
    None, {}, [], "", "yes", "APPROVE", True, False, 0, 1, -1.5, float("nan"), "approve\nreject", "\ud800", b"approve",
    {"type": None}, {"type": "maybe"}, {"type": ["approve"]}, {"type": "approve", "args": {"query": "x"}},
    {"type": "edit"}, {"type": "edit", "edited_action": None}, {"type": "edit", "edited_action": {"name": "text_search"}},
    {"type": "edit", "edited_action": {"name": "image_search", "args": {"query": "x"}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "  "}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "x" * 1001}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "\ud800"}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "x", "k": 100}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"qurey": "x"}}},
    {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": ["x"]}}},
    {"type": "reject", "message": "x" * 1001}, {"type": "reject", "reason": "x"}, {"type": "reject", "message": 7},
    {"type": "respond", "message": "The answer is 7."}, {"decisions": []}, {"decisions": "approve"},
    {"decisions": [{"type": "approve"}, {"type": "approve"}]}, {"decisions": [{"decisions": [{"type": "approve"}]}]},
    [{"type": "approve"}], [{"type": "accept", "args": None}], {"0" * 32: {"type": "approve"}}, object(),
    {"\ud800": 1}, {1: {"type": "approve"}}, {"type": "approve", "x" * 5000: 1}, {"type": "x" * 5000},
    {"__overwrite__": "approve"}, {"type": "reject", "message": "\x1b[2J\n" * 400},
]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def odd_values(seed: int, number: int) -> list[Any]:
    """Decisions with parts of them exchanged for something else."""
    draw = random.Random(seed)
    leaves = [None, 0, True, "", "approve", "edit", "text_search", [], {}, {"query": 1}, ["x"], 1e308, "\x00"]

    def broken(value: Any) -> Any:
        if draw.random() < 0.25:
            return draw.choice(leaves)
        if isinstance(value, dict):
            return {key if draw.random() < 0.8 else str(draw.random()): broken(one) for key, one in value.items()}
        return value

    whole = {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "more"}}}
    return [
        broken(draw.choice([whole, {"type": "reject", "message": "no"}, {"decisions": [whole]}])) for _ in range(number)
    ]


async def test_a_value_that_is_no_decision_is_refused_in_a_line_and_the_call_still_waits() -> None:
    context = scripted(TEXT, ANSWER)
    graph = search_agent.build(InMemorySaver())
    first = asked(await graph.ainvoke(QUESTION, THREAD, context=context))
    for value in [*ODD, nested(50), nested(100_000)]:
        with pytest.raises(BadInput) as caught:
            await graph.ainvoke(Command(resume=value), THREAD, context=context)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500, value
        waiting = (await graph.aget_state(THREAD)).interrupts
        assert [one.value for one in waiting] == [first], value
    assert made(context) == (0, 0, 0)
    result = await graph.ainvoke(Command(resume={"type": "approve"}), THREAD, context=context)
    assert (result["answer"], made(context)) == ("1987", (1, 0, 0))


def test_drawn_values_are_decisions_or_refused_in_a_line() -> None:
    """5,000 mutated decisions, seed 13, by the very type that LangGraph reads them with."""
    reader, taken = TypeAdapter(decision_type("text_search", TextArgs, lambda args: None)), 0
    for value in odd_values(13, 5_000):
        try:
            reader.validate_python(value)
        except ValidationError as error:
            said = str(unreadable(error, "text_search"))
            assert "\n" not in said and len(said) < 500, value
        else:
            taken += 1
    assert 500 < taken < 2_500


async def test_an_answer_that_nobody_waits_for_is_refused() -> None:
    context = scripted(TEXT, ANSWER)
    graph = search_agent.build(InMemorySaver())
    with pytest.raises(BadInput, match="nothing waits for an answer in this thread"):
        await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    await graph.ainvoke(QUESTION, THREAD, context=context)
    with pytest.raises(BadInput, match="answer the interrupt that waits: [0-9a-f]{32}"):
        await graph.ainvoke(Command(resume={"f" * 32: "approve"}), THREAD, context=context)
    await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    with pytest.raises(BadInput, match="nothing waits for an answer in this thread"):
        await graph.ainvoke(Command(resume="approve"), THREAD, context=context)


# --- who may ask for it


async def test_a_caller_adds_approvals_and_removes_none_of_the_operators() -> None:
    operators = configured("approve=[text_search]")
    for own, expected in (([], {"text_search"}), (["crop"], {"text_search", "crop"})):
        graph = search_agent.build(InMemorySaver())
        context = scripted(TEXT, ANSWER, approve=own, config=operators)
        assert (await graph.ainvoke(QUESTION, THREAD, context=context))["__interrupt__"]
        assert set((await graph.aget_state(THREAD)).values["approve"]) == expected


async def test_a_question_keeps_its_approvals_when_a_later_run_leaves_them_out() -> None:
    context = scripted(TEXT, ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    bare = context.model_copy(update={"approve": []})
    bare._backends = None
    assert (await graph.ainvoke(None, THREAD, context=bare))["__interrupt__"], "it still waits"
    result = await graph.ainvoke(Command(resume="reject"), THREAD, context=bare)
    assert (result["stop_reason"], made(context)) == ("answered", (0, 0, 0))


@pytest.mark.parametrize("approve", ["approve=[everything]", "approve=text", "approve=[answer]"])
def test_a_wrong_name_is_an_error_that_lists_the_valid_ones(approve: str) -> None:
    with pytest.raises(UserError, match="approve"):
        configured(approve)


async def test_without_a_checkpointer_it_is_an_error_before_anything_runs() -> None:
    context = scripted(TEXT, ANSWER)
    for graph in (search_agent.graph, rag.graph):
        with pytest.raises(
            BadInput, match=r"approve=.*text_search.*: a call that waits for a person needs a graph with a checkp"
        ):
            await graph.ainvoke(QUESTION, context=context)
    with pytest.raises(BadInput, match="needs a graph with a checkpointer, and a thread"):
        await search_agent.graph.ainvoke(Command(resume="approve"), context=context)
    assert context.policy.seen == []
    assert (await direct.graph.ainvoke(QUESTION, context=scripted(ANSWER)))["answer"] == "1987", "it searches nothing"


# --- wherever the graph runs


async def test_a_baseline_asks_about_both_of_its_searches() -> None:
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER, approve=ALL)
    graph = rag.build(InMemorySaver())
    first = asked(await graph.ainvoke(QUESTION, THREAD, context=context))
    assert (first["action_requests"][0]["name"], first["turn"]) == ("image_search", 0)
    second = asked(await graph.ainvoke(Command(resume="reject"), THREAD, context=context))
    assert second["action_requests"][0] == {
        "name": "text_search", "args": {"query": "kestrel"}, "description": "Search by text: kestrel",
    }  # fmt: skip
    result = await graph.ainvoke(edit("text_search", query="light"), THREAD, context=context)
    assert (result["answer"], context.image_search.asked, context.text_search.asked) == ("1987", [], ["light"])
    assert "A person changed this to: light" in str(context.policy.seen[-1][-1].content), "the policy is told"


async def test_a_baseline_shows_the_part_that_a_person_chose() -> None:
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER, approve=["image_search"])
    graph = rag.build(InMemorySaver())
    asked(await graph.ainvoke(QUESTION, THREAD, context=context))
    await graph.ainvoke(edit("image_search", box=[4, 2, 20, 18]), THREAD, context=context)
    opening = context.policy.seen[0][0].content
    assert context.image_search.asked == [(16, 16)]
    assert "A person changed this to" in str(opening)
    assert sum(block["type"] in ("image", "image_url") for block in opening) == 2, "the picture and the part of it"


@pytest.mark.parametrize("mode", ["ainvoke", "invoke", "astream", "stream"])
async def test_it_takes_the_answer_however_the_graph_is_called(mode: str) -> None:
    context = scripted(TEXT, ANSWER)
    graph = search_agent.build(InMemorySaver())

    async def run(given: Any) -> dict[str, Any]:
        if mode == "ainvoke":
            return dict(await graph.ainvoke(given, THREAD, context=context))
        if mode == "invoke":
            return dict(await asyncio.to_thread(graph.invoke, given, THREAD, context=context))
        if mode == "astream":
            parts = [part async for part in graph.astream(given, THREAD, context=context, stream_mode="updates")]
        else:
            stream = graph.stream(given, THREAD, context=context, stream_mode="updates")
            parts = await asyncio.to_thread(list, stream)
        return {key: value for part in parts for key, value in part.items()}

    assert asked(await run(QUESTION))["action_requests"][0]["args"] == {"query": "kestrel"}
    result = await run(Command(resume="approve"))
    assert (result.get("answer") in ("1987",) or result["answer"]["answer"] == "1987") and made(context) == (1, 0, 0)


async def test_a_batch_waits_and_goes_on_thread_by_thread() -> None:
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER, approve=["text_search"])
    graph = search_agent.build(InMemorySaver())
    threads: list[Any] = [{"configurable": {"thread_id": str(number)}} for number in range(3)]
    paused = await graph.abatch([QUESTION] * 3, threads, context=context)
    assert [asked(one)["turn"] for one in paused] == [1, 1, 1]
    decisions = [Command(resume="approve"), Command(resume="reject"), edit("text_search", query="light")]
    results = await graph.abatch(decisions, threads, context=context)
    assert [one["answer"] for one in results] == ["1987"] * 3
    assert sorted(context.text_search.asked) == ["kestrel", "light"]


class Parent(TypedDict, total=False):
    """The state of a program that asks the graph twice at once."""

    question: str
    answers: Annotated[list[str], lambda old, new: [*(old or []), *(new or [])]]


async def test_in_a_parent_graph_two_questions_wait_at_once_and_are_answered_by_id() -> None:
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER, approve=["text_search"])

    async def left(state: Parent) -> Any:
        result = await search_agent.graph.ainvoke({"question": "Left?"}, context=context)
        return {"answers": [result["answer"]]}

    async def right(state: Parent) -> Any:
        result = await search_agent.graph.ainvoke({"question": "Right?"}, context=context)
        return {"answers": [result["answer"]]}

    wiring = StateGraph(Parent)
    for name, node in (("left", left), ("right", right)):
        wiring.add_node(name, node)
        wiring.add_edge(START, name)
        wiring.add_edge(name, END)
    parent = wiring.compile(checkpointer=InMemorySaver())
    waiting = (await parent.ainvoke({"question": "Both?"}, THREAD))["__interrupt__"]
    assert sorted(one.value["question"] for one in waiting) == ["Left?", "Right?"]
    ids = {one.value["question"]: one.id for one in waiting}
    with pytest.raises(BadInput, match="The text_search still waits"):
        await parent.ainvoke(Command(resume={ids["Left?"]: "reject", ids["Right?"]: "perhaps"}), THREAD)
    result = await parent.ainvoke(Command(resume={ids["Right?"]: edit("text_search", query="right").resume}), THREAD)
    assert result.get("answers") == ["1987", "1987"], result
    assert context.text_search.asked == ["right"]


async def test_as_a_node_of_a_parent_graph_it_waits_under_the_parents_thread(tmp_path: Path) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")

    class Review(TypedDict, total=False):
        question: str
        images: list[Any]
        answer: str
        stop_reason: str

    wiring = StateGraph(Review, context_schema=Context)
    wiring.add_node("look", search_agent.graph)
    wiring.add_edge(START, "look")
    context = scripted(TEXT, ANSWER)
    with pytest.raises(BadInput, match="needs a graph with a checkpointer"):
        await wiring.compile().ainvoke({"question": "When?"}, context=context)
    async with saver(f"sqlite:///{tmp_path}/threads.db") as checkpoints:
        parent = wiring.compile(checkpointer=checkpoints)
        assert asked(await parent.ainvoke({"question": "When?"}, THREAD, context=context))["price"] == 0.0
    async with saver(f"sqlite:///{tmp_path}/threads.db") as checkpoints:
        parent = wiring.compile(checkpointer=checkpoints)
        with pytest.raises(BadInput, match="still waits"):
            await parent.ainvoke(Command(resume="perhaps"), THREAD, context=context)
        result = await parent.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert (result["answer"], made(context)) == ("1987", (1, 0, 0))


@pytest.mark.parametrize("called", [False, True], ids=["as a node", "in a node"])
@pytest.mark.parametrize(
    "answer", [Command(resume="approve"), edit("text_search", query="light"), Command(resume="reject")]
)
async def test_one_answer_in_a_parent_graph_decides_one_call(called: bool, answer: Command[Any]) -> None:
    """LangGraph keeps an answer without an id at the parent's checkpoint, and gives it again when the run goes on."""

    class Both(TypedDict, total=False):
        question: str
        images: list[Any]
        answer: str
        stop_reason: str

    async def look(state: Both) -> dict[str, Any]:
        return {"answer": (await search_agent.graph.ainvoke({"question": state["question"]}))["answer"]}

    wiring = StateGraph(Both, context_schema=Context)
    wiring.add_node("look", look if called else search_agent.graph)
    wiring.add_edge(START, "look")
    parent = wiring.compile(checkpointer=InMemorySaver())
    context = scripted(TEXT, "<text_search>second</text_search>", ANSWER)
    await parent.ainvoke({"question": "When?"}, THREAD, context=context)
    first = await parent.ainvoke(answer, THREAD, context=context)
    (waiting,) = first["__interrupt__"]
    assert waiting.value["action_requests"][0]["args"] == {"query": "second"}
    paid = list(context.text_search.asked)
    for given in (None, answer, None):
        with pytest.raises(BadInput, match=f"is decided by its id; .*{waiting.id}"):
            await parent.ainvoke(given, THREAD, context=context)
    assert context.text_search.asked == paid
    result = await parent.ainvoke(Command(resume={waiting.id: {"type": "approve"}}), THREAD, context=context)
    assert (result["answer"], context.text_search.asked) == ("1987", [*paid, "second"])


async def test_a_tool_that_asks_as_well_gets_the_second_answer() -> None:
    class Asking(testing.FixedText):
        async def asearch(self, query: str) -> SearchResult:
            return await super().asearch(f"{query} {interrupt('in which language?')}")

    context = scripted(TEXT, ANSWER, text_search=Asking())
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    second = await graph.ainvoke(edit("text_search", query="light"), THREAD, context=context)
    assert asked(second) == "in which language?"
    result = await graph.ainvoke(Command(resume="german"), THREAD, context=context)
    assert (result["answer"], context.text_search.asked) == ("1987", ["light german"])


async def test_the_time_in_which_a_person_decides_is_not_the_questions() -> None:
    context = testing.context([TEXT, TEXT, ANSWER], approve=["text_search"], config=configured("limits.seconds=1.5"))
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    await asyncio.sleep(1.6)
    result = await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert asked(result)["turn"] == 2, "the clock stood still"
    result = await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert result["stop_reason"] == "answered"


async def test_a_follow_up_is_asked_about_anew() -> None:
    context = testing.context(
        lambda messages: TEXT if not any("kestrel" in m.text for m in messages[1:]) else ANSWER, approve=["text_search"]
    )
    graph = search_agent.build(InMemorySaver())
    for _ in range(2):
        assert asked(await graph.ainvoke(QUESTION, THREAD, context=context))["question"] == "When?"
        result = await graph.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert (result["answer"], made(context)) == ("1987", (2, 0, 0))


# --- after a kill

PROGRAM = '''
import asyncio, json, os, signal, sys
from pathlib import Path
from langgraph.types import Command
from PIL import Image
from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.savers import saver
from lensgraph.graphs import search_agent

folder, given, die = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]


class Paid(testing.FixedText):
    """Writes down what is sent, and may die before the result is there."""

    async def asearch(self, query):
        with open(folder / "sent", "a") as file:
            file.write(query + ";")
        if die == "sent":
            await asyncio.sleep(0.5)  # LangGraph writes the decision down meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().asearch(query)


async def main():
    turns = ["<text_search>kestrel</text_search>", "<answer>1987</answer>"]
    approve = ["text_search"] if given == "ask" else []
    context = testing.context(turns, approve=approve, text_search=Paid(), store=ImageStore(folder / "pictures"))
    async with saver(f"sqlite:///{folder}/threads.db") as checkpoints:
        graph = search_agent.build(checkpoints)
        question = {"question": "When?", "images": [Image.new("RGB", (64, 48))]}
        send = question if given == "ask" else None if given == "go on" else Command(resume=given)
        result = await graph.ainvoke(send, {"configurable": {"thread_id": "1"}}, context=context)
        if die == "paused":
            os.kill(os.getpid(), signal.SIGKILL)
    waiting = [one.value["action_requests"][0]["args"] for one in result.get("__interrupt__", [])]
    print(json.dumps([waiting, result.get("answer"), [step.get("error") for step in result["steps"]]]))


asyncio.run(main())
'''


def run(folder: Path, given: Any, die: str = "") -> Any:
    """The output of a process of its own. None: it killed itself."""
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(given), die]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if die:
        assert done.returncode == -9, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sent(folder: Path) -> str:
    return (folder / "sent").read_text() if (folder / "sent").exists() else ""


@pytest.mark.slow
def test_a_process_killed_while_the_call_waits_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    run(tmp_path, "ask", die="paused")
    assert run(tmp_path, edit("text_search", query="light").resume) == [[], "1987", [None, None, None]]
    assert sent(tmp_path) == "light;"


@pytest.mark.slow
def test_a_process_killed_after_the_decision_sends_the_call_once(tmp_path: Path) -> None:
    """The decision is kept, so nobody is asked again; the call may have been paid for, so it is not repeated."""
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    assert run(tmp_path, "ask")[0] == [{"query": "kestrel"}]
    assert run(tmp_path, "go on")[0] == [{"query": "kestrel"}], "another process asks the same"
    run(tmp_path, "approve", die="sent")
    waiting, answer, errors = run(tmp_path, "go on")
    assert (waiting, answer, sent(tmp_path)) == ([], "1987", "kestrel;")
    assert errors[1].startswith("unavailable: this search was cut off")
