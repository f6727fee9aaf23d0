"""`update_state` on a run that waits: it goes on where it waited, or says in one line why not; counts are nobody's to write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Overwrite, Send
from PIL import Image
from typing_extensions import TypedDict

from lensgraph.agent import testing
from lensgraph.agent.context import Context, backends_of
from lensgraph.agent.errors import BadInput
from lensgraph.graphs import rag, search_agent

TEXT, REGION, ANSWER = (
    "<text_search>kestrel</text_search>",
    "<img_search>the tower</img_search>",
    "<answer>1987</answer>",
)
QUESTION: Any = {"question": "When?", "images": [Image.new("RGB", (64, 48))]}
THREAD: Any = {"configurable": {"thread_id": "1"}}
LIGHT = {"action": {"kind": "text_search", "query": "light"}}
NODES = ["receive", "reason", "crop", "image_search", "text_search", "answer"]


@pytest.mark.parametrize("values", [None, {"messages": [HumanMessage("By the way.")]}], ids=["none", "chat"])
@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("node", NODES)
async def test_a_run_that_waits_goes_on_after_an_update(node: str, mode: str, values: Any) -> None:
    """LangGraph alone would end it here without a word, because our nodes name their successors themselves."""
    context = testing.context([REGION, TEXT, ANSWER])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context, interrupt_before=[node])
    assert (await graph.aget_state(THREAD)).next == (node,)
    if mode == "async":
        await graph.aupdate_state(THREAD, values)
    else:
        await asyncio.to_thread(graph.update_state, THREAD, values)
    assert (await graph.aget_state(THREAD)).next == (node,)
    result = await graph.ainvoke(None, THREAD, context=context)
    assert [step["node"] for step in result["steps"]] == [
        "reason", "crop", "image_search", "reason", "text_search", "reason",
    ]  # fmt: skip
    assert (result["answer"], context.text_search.asked) == ("1987", ["kestrel"])


async def test_the_action_of_a_run_that_waits_may_be_changed() -> None:
    context = testing.context([TEXT, ANSWER])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context, interrupt_before=["text_search"])
    await graph.aupdate_state(THREAD, LIGHT)
    assert (await graph.ainvoke(None, THREAD, context=context))["answer"] == "1987"
    assert context.text_search.asked == ["light"]


async def test_a_call_that_waits_for_a_person_is_asked_about_as_it_was_changed() -> None:
    context = testing.context([TEXT, ANSWER], approve=["text_search"])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    await graph.aupdate_state(THREAD, LIGHT)
    (asked,) = (await graph.ainvoke(None, THREAD, context=context))["__interrupt__"]
    assert asked.value["action_requests"][0]["args"] == {"query": "light"}
    assert (await graph.ainvoke(Command(resume="approve"), THREAD, context=context))["answer"] == "1987"
    assert context.text_search.asked == ["light"]


async def test_a_command_to_a_node_that_waits_may_be_sent_again() -> None:
    """LangGraph keeps the first beside the checkpoint until its node has ended, and the second would break the thread."""
    context = testing.context([TEXT, ANSWER], approve=["text_search"])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for query in ("light", "lamp"):
        command: Any = Command(goto="text_search", update={"action": {"kind": "text_search", "query": query}})
        (asked,) = (await graph.ainvoke(command, THREAD, context=context))["__interrupt__"]
        assert asked.value["action_requests"][0]["args"] == {"query": query}
        assert (await graph.aget_state(THREAD)).next == ("text_search",)
    assert (await graph.ainvoke(Command(resume="approve"), THREAD, context=context))["answer"] == "1987"
    assert context.text_search.asked == ["lamp"]


@pytest.mark.parametrize(
    ("values", "node"),
    [
        ({"first_step": 99}, None), ({"steps": []}, None), ({"steps": {"__overwrite__": []}}, None), ({"started": 9e9}, "reason"),
        ({"approve": []}, None), ({"usage": {}}, None), ({"messages": Overwrite([])}, None),
        ({"dialogue": [AIMessage("x")]}, None), ({"crop": None}, None),
        (7, None), (["x"], None), (LIGHT, "text_search"), ({}, "text_search"), ({}, "nowhere"),
        ({"steps": []}, "__start__"), ({}, "__start__"), ("When?", "__start__"),
        ({"question": "?", "images": ["/etc/passwd"]}, "__start__"),
        ({"question": "Another?"}, None), ({"action": {"kind": "answer", "text": "7"}}, None), ({"action": {}}, None),
        (Command(update={"steps": []}), None), (Command(goto=[Send("text_search", {})]), None), ({"steps": []}, "__end__"),
        (Command(update={"first_step": 9}, goto="text_search"), "__start__"), ([[{"steps": []}, "reason"]], "__copy__"),
    ],
    ids=str,
)  # fmt: skip
async def test_an_update_that_forges_or_ends_the_run_is_refused_in_one_line(values: Any, node: str | None) -> None:
    context = testing.context([TEXT, ANSWER], approve=["text_search"])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    before = await graph.aget_state(THREAD)
    for update in (graph.aupdate_state, lambda *given: asyncio.to_thread(graph.update_state, *given)):
        with pytest.raises(BadInput) as caught:
            await update(THREAD, values, node)
        assert "\n" not in str(caught.value)
    after = await graph.aget_state(THREAD)
    assert (after.values, after.next, after.interrupts) == (before.values, before.next, before.interrupts)


async def test_no_update_gets_past_a_limit() -> None:
    context = testing.context(lambda messages: ANSWER, max_text_searches=1)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for _ in range(4):
        onwards: Any = Command(goto="text_search", update=LIGHT)
        await graph.aupdate_state(THREAD, onwards)
        await graph.ainvoke(None, THREAD, context=context)
    assert context.text_search.asked == ["light"]


async def test_a_question_may_be_asked_by_an_update_and_its_picture_is_stored() -> None:
    store = (await backends_of(None)).store
    context = testing.context(lambda messages: ANSWER, store=store)
    graph = search_agent.build(InMemorySaver())
    for node in (None, "__start__", "__input__"):
        await graph.aupdate_state(THREAD, QUESTION, node)
        assert (await graph.aget_state(THREAD)).next == ("receive",)
        assert "base64" not in str((await graph.aget_state(THREAD)).values)
        assert (await graph.ainvoke(None, THREAD, context=context))["answer"] == "1987"
    command: Any = Command(goto="receive", update=QUESTION)
    assert (await graph.ainvoke(command, {"configurable": {"thread_id": "2"}}, context=context))["answer"] == "1987"


async def test_ending_a_run_and_copying_a_checkpoint_are_langgraphs_own() -> None:
    context = testing.context([TEXT, ANSWER], approve=["text_search"])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    await graph.aupdate_state(THREAD, None, "__copy__")
    (asked,) = (await graph.ainvoke(None, THREAD, context=context))["__interrupt__"]
    assert asked.value["question"] == "When?"
    await graph.aupdate_state(THREAD, None, "__end__")
    assert (await graph.aget_state(THREAD)).next == ()
    with pytest.raises(BadInput, match="nothing waits for an answer"):
        await graph.ainvoke(Command(resume="approve"), THREAD, context=context)


async def test_an_earlier_checkpoint_is_forked_with_another_action() -> None:
    """As Studio does it: the state behind `reason` is edited, and the run goes on from there."""
    context = testing.context([TEXT, ANSWER])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    earlier = await anext(past async for past in graph.aget_state_history(THREAD) if past.next == ("text_search",))
    fork = await graph.aupdate_state(earlier.config, LIGHT, "reason")
    assert (await graph.ainvoke(None, fork, context=context))["answer"] == "1987"
    assert context.text_search.asked == ["kestrel", "light"]


async def test_a_command_at_an_earlier_checkpoint_goes_on_from_there() -> None:
    context = testing.context([TEXT, ANSWER])
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    earlier = await anext(past async for past in graph.aget_state_history(THREAD) if past.next == ("text_search",))
    command: Any = Command(goto="text_search", update=LIGHT)
    result = await graph.ainvoke(command, earlier.config, context=context)
    assert (len(result["steps"]), context.text_search.asked) == (3, ["kestrel", "light"])


async def test_within_a_parent_graph_the_part_that_waits_is_updated() -> None:
    class Review(TypedDict, total=False):
        question: str
        answer: str

    wiring = StateGraph(Review, context_schema=Context)
    wiring.add_node("look", search_agent.graph)
    wiring.add_edge(START, "look")
    parent = wiring.compile(checkpointer=InMemorySaver())
    context = testing.context([TEXT, ANSWER], approve=["text_search"])
    await parent.ainvoke({"question": "When?"}, THREAD, context=context)
    inner = (await parent.aget_state(THREAD, subgraphs=True)).tasks[0].state
    with pytest.raises(BadInput, match="'steps' is not a caller's"):
        await parent.aupdate_state(inner.config, {"steps": []})
    await parent.aupdate_state(inner.config, LIGHT)
    (asked,) = (await parent.ainvoke(None, THREAD, context=context))["__interrupt__"]
    assert asked.value["action_requests"][0]["args"] == {"query": "light"}
    result = await parent.ainvoke(Command(resume="approve"), THREAD, context=context)
    assert (result["answer"], context.text_search.asked) == ("1987", ["light"])


async def test_a_baseline_goes_on_as_well() -> None:
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER)
    graph = rag.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context, interrupt_before=["text_search"])
    await graph.aupdate_state(THREAD, LIGHT)
    assert (await graph.ainvoke(None, THREAD, context=context))["answer"] == "1987"
    assert context.text_search.asked == ["light"]


async def test_pictures_of_an_update_are_stored_whoever_says_them() -> None:
    picture = {"type": "image", "base64": "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=", "mime_type": "image/png"}
    graph = search_agent.build(InMemorySaver())
    context = testing.context([ANSWER])
    await graph.ainvoke(QUESTION, THREAD, context=context)
    await graph.aupdate_state(THREAD, {"messages": [AIMessage([picture])]})
    assert "aGVsbG8" not in str((await graph.aget_state(THREAD)).values)
