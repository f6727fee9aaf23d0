"""Pictures leave the input before the first checkpoint; synchronous callers are served; threads are small."""

import asyncio
import base64
import io
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from PIL import Image
from pydantic import BaseModel

from lensgraph.agent import question, testing
from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.context import Context
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore
from lensgraph.agent.savers import saver
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.tools.base import TextSearch
from lensgraph.tools.results import SearchResult

WHOLE = "<img_search><img></img_search>"
ANSWER = "<answer>1987</answer>"
THREAD: Any = {"configurable": {"thread_id": "1"}}


def jpeg(width: int = 64, height: int = 48) -> bytes:
    noise = [Image.effect_noise((width, height), 90) for _ in range(3)]
    buffer = io.BytesIO()
    Image.merge("RGB", noise).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def block(data: bytes) -> dict[str, str]:
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/jpeg"}


def chat(*pictures: bytes, text: str = "When?") -> dict[str, Any]:
    return {"messages": [HumanMessage([*map(block, pictures), {"type": "text", "text": text}])]}


# --- what LangGraph sees of the input


async def deposited(given: Any, store: ImageStore | None = None) -> Any:
    return await question.deposit(given, store or ImageStore(), LimitsConfig())


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage([block(jpeg()), {"type": "text", "text": "When?"}], id="m")],
        HumanMessage([block(jpeg()), {"type": "text", "text": "When?"}], id="m"),
        [{"role": "user", "id": "m", "content": [block(jpeg()), {"type": "text", "text": "When?"}]}],
        [
            {
                "role": "user",
                "id": "m",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg()).decode()}"},
                    },
                    {"type": "text", "text": "When?"},
                ],
            }
        ],
    ],
)
async def test_a_chat_keeps_its_message_and_gets_an_id_for_its_picture(messages: Any) -> None:
    found = (await deposited({"messages": messages}))["messages"]
    assert [(m.id, [b["type"] for b in m.content]) for m in found] == [("m", ["image", "text"])]
    assert set(found[0].content[0]) == {"type", "id"}


async def test_a_question_becomes_a_message_behind_the_chat() -> None:
    found = await deposited({"messages": [AIMessage("hello")], "question": "When?", "images": [jpeg(), jpeg()]})
    assert set(found) == {"messages"}
    assert [m.type for m in found["messages"]] == ["ai", "human"]
    assert [b["type"] for b in found["messages"][1].content] == ["image", "image", "text"]


async def test_earlier_pictures_leave_the_chat_too_and_a_bad_one_costs_only_itself() -> None:
    bad = {"type": "image", "base64": base64.b64encode(b"no picture").decode(), "mime_type": "image/png"}
    earlier = HumanMessage([block(jpeg()), bad, {"type": "text", "text": "See?"}])
    found = (await deposited({"messages": [earlier, AIMessage("Yes."), HumanMessage("When?")]}))["messages"]
    assert [b.get("text") for b in found[0].content] == [None, question.UNREADABLE, "See?"]
    assert set(found[0].content[0]) == {"type", "id"}


async def test_a_bad_picture_of_the_question_is_bad_input_before_anything_ran() -> None:
    context = testing.context([ANSWER])
    compiled, checkpoints = search_agent.build(InMemorySaver()), THREAD
    with pytest.raises(BadInput, match="not a picture"):
        await compiled.ainvoke({"question": "?", "images": [b"no picture"]}, checkpoints, context=context)
    assert (await compiled.aget_state(checkpoints)).values == {}


@pytest.mark.parametrize("given", [None, {}, {"images": []}, {"messages": [AIMessage("hello")]}])
async def test_what_holds_no_question_is_left_to_the_first_node(given: Any) -> None:
    assert await deposited(given) == given


CALLED = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call-1"}])


def hidden_chats(data: bytes) -> dict[str, list[Any]]:
    """Chats that carry a picture where nothing reads one."""
    text = base64.b64encode(data).decode()
    address = f"data:image/jpeg;base64,{text}"
    source = {"type": "base64", "media_type": "image/jpeg", "data": text}
    answered = ToolMessage("seen", tool_call_id="call-1")
    return {
        "a tool's artifact": [CALLED, answered.model_copy(update={"artifact": {"image": data}})],
        "an artifact of blocks": [CALLED, answered.model_copy(update={"artifact": [{"type": "image", "data": text}]})],
        "the arguments of a call": [
            AIMessage("", tool_calls=[{"name": "look", "args": {"image": address}, "id": "call-1"}]),
            answered,
        ],
        "a tool's text": [CALLED, ToolMessage(f'{{"image": "{address}"}}', tool_call_id="call-1")],
        "a call's output": [AIMessage([{"type": "function_call_output", "output": [{"image_url": address}]}])],  # type: ignore[list-item]
        "a document of blocks": [HumanMessage([{"type": "document", "source": {"content": [{"source": source}]}}])],
        "tool outputs": [AIMessage("done", additional_kwargs={"tool_outputs": [{"result": text}]})],
        "attachments": [HumanMessage("old", additional_kwargs={"attachments": [{"url": address}]})],
        "a tool's text in lines": [CALLED, ToolMessage(base64.encodebytes(data).decode(), tool_call_id="call-1")],
        "a text": [HumanMessage(f"what is {address} about?")],
    }


@pytest.mark.parametrize("where", list(hidden_chats(b"")))
async def test_a_picture_where_nothing_reads_one_is_not_kept(where: str) -> None:
    picture, memory = jpeg(), InMemorySaver()
    earlier = "https://example.org/" + "a1b2" * 60
    first = HumanMessage([{"type": "image_url", "image_url": {"url": earlier}}, {"type": "text", "text": "Before?"}])
    chat = [
        first,
        *hidden_chats(picture)[where],
        HumanMessage([block(jpeg(32, 24)), {"type": "text", "text": "When?"}]),
    ]
    context = testing.context([ANSWER])
    modes: Any = ["values", "updates", "messages", "debug", "checkpoints"]
    streamed = direct.build(memory).astream({"messages": chat}, THREAD, context=context, stream_mode=modes)
    parts = [part async for part in streamed]
    kept = str(parts) + str([one async for one in memory.alist(None)]) + str([memory.writes, memory.blobs])
    for at in (400, 800):
        assert base64.b64encode(picture).decode()[at : at + 30] not in kept
    assert base64.encodebytes(picture).decode()[7 * 77 : 7 * 77 + 60] not in kept, "the eighth line"
    assert repr(picture[300:330])[2:-1] not in kept
    assert earlier in kept, "an address stays"
    assert ("call-1" in str(chat)) == ("call-1" in kept), "ids stay"


async def test_pictures_without_a_question_are_kept_by_id_and_join_the_threads_last_question() -> None:
    """LangGraph keeps the input of a run, also of one that is refused."""
    memory, picture = InMemorySaver(), jpeg()
    graph, context = direct.build(memory), testing.context([ANSWER] * 3)
    address = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    given: Any = {"images": {"type": "image_url", "image_url": {"url": address}, "\ud83d": "half a key"}}
    with pytest.raises(BadInput, match="No question"):
        await graph.ainvoke(given, {"configurable": {"thread_id": "2"}}, context=context)
    await graph.ainvoke({"question": "What is it?", "images": [jpeg(32, 24)]}, THREAD, context=context)
    state = await graph.ainvoke(given, THREAD, context=context, output_keys=EVERYTHING)
    assert (state["asked"], [one["width"] for one in state["pictures"]]) == ("What is it?", [32, 64])
    kept = str([checkpoint async for checkpoint in memory.alist(None)]) + str([memory.writes, memory.blobs])
    assert repr(picture[200:240])[2:-1] not in kept
    assert base64.b64encode(picture).decode()[400:440] not in kept


async def test_a_parent_may_keep_its_state_in_a_model() -> None:
    class State(BaseModel):
        question: str
        images: list[str] = []
        answer: str | None = None

    parent = StateGraph(State, context_schema=Context)
    parent.add_node("look", search_agent.graph)
    parent.add_edge(START, "look")
    uri = f"data:image/jpeg;base64,{base64.b64encode(jpeg()).decode()}"
    context = testing.context([WHOLE, ANSWER])
    result = await parent.compile().ainvoke({"question": "When?", "images": [uri]}, context=context)
    assert (result["answer"], context.image_search.asked) == ("1987", [(64, 48)])


# --- synchronous callers


@pytest.mark.parametrize("graph", [search_agent.graph, rag.graph, direct.graph])
def test_a_synchronous_call_runs_the_asynchronous_nodes(graph: Any) -> None:
    turns = {"search_agent": [WHOLE, ANSWER], "rag": ["<text_search>q</text_search>", ANSWER], "direct": [ANSWER]}
    result = graph.invoke({"question": "When?", "images": [jpeg()]}, context=testing.context(turns[graph.name]))
    assert (result["answer"], result["stop_reason"]) == ("1987", "answered")


async def test_a_synchronous_call_works_inside_a_running_loop() -> None:
    assert search_agent.graph.invoke({"question": "When?"}, context=testing.context([ANSWER]))["answer"] == "1987"


def test_a_synchronous_stream_shows_each_node_and_may_be_left_early() -> None:
    context = testing.context([WHOLE, ANSWER])
    given = {"question": "When?", "images": [jpeg()]}
    parts = search_agent.graph.stream(given, context=context, stream_mode="updates")
    assert [node for part in parts for node in part] == ["receive", "reason", "image_search", "reason", "answer"]
    left = search_agent.graph.stream(given, context=context, stream_mode="updates")
    assert list(next(iter(left))) == ["receive"]
    left.close()  # joins the thread: hangs if the run is not cancelled


def test_a_synchronous_error_is_the_callers() -> None:
    with pytest.raises(BadInput, match="The question is empty"):
        search_agent.graph.invoke({"question": " "}, context=testing.context([ANSWER]))


class Sleeps(TextSearch):
    """Works in a thread that nobody can cancel."""

    timeout: float = 0.2

    async def asearch(self, query: str) -> SearchResult:
        await asyncio.to_thread(time.sleep, 20)
        raise AssertionError("nobody waits for this")


def test_a_tool_that_is_late_in_a_thread_does_not_hold_a_synchronous_caller() -> None:
    context = testing.context(["<text_search>q</text_search>", ANSWER])
    context.text_search = Sleeps()
    started = time.monotonic()
    parts = list(search_agent.graph.stream({"question": "When?"}, context=context, stream_mode="updates"))
    assert time.monotonic() - started < 10
    steps = {node: update for part in parts for node, update in part.items()}
    assert steps["answer"]["answer"] == "1987"
    assert steps["text_search"]["steps"][0]["error"] == "timeout: text_search: no answer in 0.2 s."


# --- what a checkpoint weighs


def weight(path: Path) -> int:
    with sqlite3.connect(path) as base:
        (checkpoints,) = base.execute("select sum(length(checkpoint) + length(metadata)) from checkpoints").fetchone()
        (writes,) = base.execute("select sum(length(value)) from writes").fetchone()
    return checkpoints + writes


def look_then_answer(messages: list[Any]) -> str:
    return ANSWER if "<information>" in messages[-1].text else WHOLE


@pytest.mark.parametrize("form", ["chat", "images"])
@pytest.mark.parametrize("questions", [1, 6])
async def test_six_pictures_of_400_kb_weigh_less_than_100_kb(tmp_path: Path, form: str, questions: int) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    pictures = [jpeg(760, 550) for _ in range(6)]
    assert min(map(len, pictures)) > 400_000
    context = testing.context(look_then_answer, store=ImageStore(tmp_path / "pictures"))
    async with saver(f"sqlite:///{tmp_path}/threads.db") as checkpoints:
        graph = search_agent.build(checkpoints)
        for n in range(questions):
            shown = pictures if questions == 1 else pictures[n : n + 1]
            given = chat(*shown) if form == "chat" else {"question": "When?", "images": shown}
            result = await graph.ainvoke(given, THREAD, context=context)
            assert result["answer"] == "1987"
        assert len(result["messages"]) == 2 * questions
    assert weight(tmp_path / "threads.db") < 100_000
    assert sum(path.stat().st_size for path in (tmp_path / "pictures").iterdir()) > 2_400_000


async def test_langgraphs_own_saver_holds_no_picture_either(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite.aio", reason="needs lensgraph[threads]")
    context = testing.context(look_then_answer)
    async with sqlite.AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as checkpoints:
        graph = search_agent.build(checkpoints)
        await graph.ainvoke(chat(*(jpeg(760, 550) for _ in range(6))), THREAD, context=context)
    assert weight(tmp_path / "threads.db") < 100_000
