"""The streams of a question: typed events in `custom`, the answer once in `messages`, and nothing else than without them."""

import asyncio
import base64
import io
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from PIL import Image
from typing_extensions import TypedDict

from lensgraph import events
from lensgraph.agent import testing
from lensgraph.agent.actions import Answer, SearchByImage, SearchByText
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.native_tools import NativeTools
from lensgraph.agent.policy import PolicyError
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.agent.stream import heard
from lensgraph.graphs import direct, rag, search_agent

QUESTION = {"question": "When was it automated?", "images": [Image.new("RGB", (64, 48), "navy")]}
SEARCH = "<reason>I cannot name it.</reason><img_search>the white tower</img_search>"
TEXT = "<text_search>kestrel</text_search>"
ANSWER = "<reason>The page says so.</reason><answer>in the year 1987</answer>"
TURNS = [SEARCH, TEXT, ANSWER]
OF_MMSEARCH = [turn.replace("<img_search>the white tower</img_search>", "<search><img></search>") for turn in TURNS]
GRAPHS = pytest.mark.parametrize("module", [search_agent, rag, direct])


class Streaming(BaseChatModel):
    """A foreign chat model that streams its turns in parts of odd sizes, and may break off."""

    turns: list[str]
    seed: int = 0
    breaks: int = 0
    """Streams that break off before their end."""
    streamed: int = 0
    """Turns that were streamed."""
    whole: int = 0
    """Turns that were not."""

    @property
    def _llm_type(self) -> str:
        return "streaming"

    def _turn(self, messages: list[BaseMessage]) -> str:
        return self.turns[sum(isinstance(message, AIMessage) for message in messages)]

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.whole += 1
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._turn(messages)))])

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.streamed += 1
        turn, chance = self._turn(messages), random.Random(self.seed)
        cuts = sorted(chance.choices(range(len(turn) + 1), k=chance.randrange(20)))
        blocks = chance.random() < 0.3  # as some providers write
        for begin, end in zip([0, *cuts], [*cuts, len(turn)], strict=True):
            content: Any = [{"type": "text", "text": turn[begin:end], "index": 0}] if blocks else turn[begin:end]
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))
        if self.breaks:
            self.breaks -= 1
            raise PolicyError("the connection broke")


async def told(turns: Any, module: Any = search_agent, dialect: str = "compact", **fields: Any) -> list[dict[str, Any]]:
    """The events of a question."""
    context = testing.context(turns, dialect, **fields)
    return [event async for event in module.graph.astream(QUESTION, context=context, stream_mode="custom")]


def applied(found: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    """The texts that the pieces give: (`thought` or `answer`, turn) -> text."""
    texts: dict[tuple[str, int], str] = {}
    for event in found:
        if event["type"] in ("thought", "answer"):
            key = event["type"], event["turn"]
            assert event["at"] in (0, len(texts.get(key, ""))), "a piece follows the one before, or begins anew"
            texts[key] = texts.get(key, "")[: event["at"]] + event["text"]
    return {key: text for key, text in texts.items() if text}


def answer_of(found: list[dict[str, Any]]) -> str:
    return "".join(text for (part, _), text in applied(found).items() if part == "answer")


# --- custom


async def test_the_events_tell_the_story_in_its_order() -> None:
    found = await told(TURNS)
    assert [event["type"] for event in found] == [
        "thought", "action", "cost", "crop", "cost", "results", "cost",
        "action", "cost", "results", "cost",
        "thought", "answer", "action", "cost", "end",
    ]  # fmt: skip
    assert [event["turn"] for event in found if "turn" in event] == [1] * 7 + [2] * 4 + [3] * 4
    crop = next(event for event in found if event["type"] == "crop")
    assert (crop["region"], crop["crop"]["box"]) == ("the white tower", [8, 8, 24, 24])
    results = [event for event in found if event["type"] == "results"]
    assert [(one["node"], one["query"]) for one in results] == [
        ("image_search", "the white tower"), ("text_search", "kestrel"),
    ]  # fmt: skip
    assert results[1]["hits"][0]["snippet"] == "Automated in 1987."
    assert found[-1]["answer"] == "in the year 1987"
    assert found[-1]["usage"]["searches"] == {"image": 1, "text": 1}
    assert applied(found) == {
        ("thought", 1): "I cannot name it.", ("thought", 3): "The page says so.", ("answer", 3): "in the year 1987",
    }  # fmt: skip


@GRAPHS
async def test_events_are_plain_json_of_the_declared_types_and_end_with_the_result(module: Any) -> None:
    turns = [ANSWER] if module is direct else [TEXT, ANSWER]
    found = await told(turns, module)
    declared = {
        kind: set(one.__required_keys__)
        for one in get_args(events.Event)
        for kind in get_args(get_type_hints(one)["type"])
    }
    for event in found:
        assert set(event) == declared[event["type"]]
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=str))
    result = await module.graph.ainvoke(QUESTION, context=testing.context(turns))
    assert {**found[-1], "usage": {**found[-1]["usage"], "seconds": {}}} == {
        "type": "end", "answer": result["answer"], "stop_reason": result["stop_reason"], "sources": result["sources"],
        "usage": {**result["usage"], "seconds": {}},
    }  # fmt: skip
    assert answer_of(found) == result["answer"]


async def test_a_failure_and_the_price_are_told() -> None:
    found = await told([TEXT, ANSWER], text_search=testing.FixedText(hits=[]))
    failed = [event for event in found if event["type"] == "failed"]
    assert [(one["node"], one["error"]) for one in failed] == [("text_search", "unavailable: the text search is down")]
    assert not [event for event in found if event["type"] == "results"]
    assert found[-1]["stop_reason"] == "answered"

    found = await told([TEXT, ANSWER], text_search=testing.FixedText(price_per_call=0.5))
    assert [event["total_price"] for event in found if event["type"] == "cost"] == [0.0, 0.5, 0.5]


async def test_a_policy_that_fails_ends_in_its_reason() -> None:
    def refuse(messages: list[BaseMessage]) -> str:
        raise PolicyError("the server is gone")

    found = await told(refuse)
    assert [event["type"] for event in found] == ["failed", "cost", "end"]
    assert found[0]["error"] == "policy: the server is gone"
    assert found[-1]["stop_reason"] == "policy_failed" and found[-1]["answer"] is None


@pytest.mark.parametrize("dialect", ["compact", "deepmmsearch_r1", "mmsearch_r1"])
async def test_the_answer_comes_in_pieces_however_the_policy_streams(dialect: str) -> None:
    turns = OF_MMSEARCH if dialect == "mmsearch_r1" else TURNS
    for seed in range(12):
        policy = Streaming(turns=turns, seed=seed)
        found = await told(turns, dialect=dialect, policy=policy)
        assert policy.streamed == 3 and policy.whole == 0
        pieces = [event for event in found if event["type"] == "answer"]
        assert "".join(piece["text"] for piece in pieces) == found[-1]["answer"] == "in the year 1987"
        assert applied(found)["thought", 1] == "I cannot name it."
        assert "<" not in json.dumps([event for event in found if event["type"] in ("thought", "answer")])


ODD = [
    "<answer>cut in the mid", "<answer>a</answer> and more", "<answer>a<answer>b</answer>", "bare words", "",
    "<answer>a</answer><text_search>q</text_search>", "<reason>open <answer>a</answer>", "<answer></answer>",
    "<reason>so <answer>no</answer></reason><answer> yes\n it is </answer>\n", "<Answer>loud</Answer>",
    "<answer>Unable to answer due to lack of relevant information.</answer>", "<crop>a<b></crop>",
    "<answer>a</answer>\n<answer>b</answer>", "<reason>x</reason><reason>y</reason><answer>z</answer>",
]  # fmt: skip


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("dialect", ["compact", "deepmmsearch_r1", "mmsearch_r1"])
async def test_any_turn_leaves_exactly_the_answer_of_the_graph_and_no_answer_leaves_none(
    dialect: str, lenient: bool
) -> None:
    for seed, turn in enumerate(ODD):
        policy = Streaming(turns=[turn, "<answer>late</answer>", "<answer>later</answer>"], seed=seed)
        found = await told([], dialect=dialect, policy=policy, lenient=lenient)
        whole = await told([], dialect=dialect, policy=testing.ScriptedPolicy(policy.turns), lenient=lenient)
        assert answer_of(found) == answer_of(whole) == (found[-1]["answer"] or ""), turn
        assert applied(found) == applied(whole), turn


async def test_a_search_over_the_limit_is_told_and_leaves_no_answer() -> None:
    turns = [OF_MMSEARCH[0], OF_MMSEARCH[0]]
    found = await told(turns, dialect="mmsearch_r1", policy=Streaming(turns=turns))
    last = [event for event in found if event["type"] == "action"][-1]
    assert last["action"] == {
        "kind": "over_limit", "wanted": {"kind": "image_search", "region": None}, "stop": "search_limit",
    }  # fmt: skip
    assert answer_of(found) == "" and found[-1]["stop_reason"] == "search_limit"


async def test_an_answer_in_place_of_rags_query_is_not_the_graphs() -> None:
    turns = ["<answer>too early</answer>", ANSWER]
    found = await told(turns, rag, policy=Streaming(turns=turns))
    assert answer_of(found) == found[-1]["answer"] == "in the year 1987"


async def test_a_stream_that_breaks_off_is_asked_for_once_more_as_a_whole() -> None:
    policy = Streaming(turns=[ANSWER], breaks=1)
    found = await told([], direct, policy=policy)
    assert (policy.streamed, policy.whole) == (1, 1)
    assert answer_of(found) == found[-1]["answer"] == "in the year 1987"
    assert {"type": "answer", "turn": 1, "at": 0, "text": ""} in found, "the pieces of the broken stream are taken back"


async def test_the_pocket_policy_streams_tokens_and_samples_the_same_turns(repository: Path) -> None:
    given = {
        "question": "Which country's flag is on the far right?", "images": [repository / "notebooks" / "flags.png"],
    }  # fmt: skip
    plain = await direct.graph.ainvoke(given, context=Context(), output_keys=EVERYTHING)
    found, final = [], {}
    async for mode, part in direct.graph.astream(
        given, context=Context(), stream_mode=["custom", "values"], output_keys=EVERYTHING
    ):
        if mode == "custom":
            found.append(part)
        else:
            final = part
    assert len([event for event in found if event["type"] == "answer"]) > 1, "a token at a time"
    assert answer_of(found) == (plain["answer"] or "")
    said = [message for message in final["dialogue"] if isinstance(message, AIMessage)]
    before = [message for message in plain["dialogue"] if isinstance(message, AIMessage)]
    assert [type(message) for message in said] == [AIMessage]
    for key in ("token_ids", "finish_reason"):
        assert said[0].response_metadata[key] == before[0].response_metadata[key]
    assert said[0].response_metadata["logprobs"] == pytest.approx(before[0].response_metadata["logprobs"], abs=1e-4)
    assert (said[0].content, said[0].usage_metadata) == (before[0].content, before[0].usage_metadata)


async def test_native_tool_calls_tell_every_action_and_the_answer_in_one_piece() -> None:
    write = NativeTools().write
    both = "\n".join([write("", SearchByText("kestrel")), write("", SearchByImage())])
    turns = [both, write("The page says so.", Answer("in the year 1987"))]
    context = testing.context(turns, "tools")
    found, shown = [], []
    async for mode, part in search_agent.graph.astream(QUESTION, context=context, stream_mode=["custom", "messages"]):
        (found if mode == "custom" else shown).append(part)
    asked = [event["action"]["kind"] for event in found if event["type"] == "action"]
    assert asked == ["text_search", "image_search", "answer"]
    assert [event["query"] for event in found if event["type"] == "results"] == ["kestrel", "<whole picture>"]
    pieces = [event for event in found if event["type"] == "answer"]
    assert pieces == [{"type": "answer", "turn": 2, "at": 0, "text": "in the year 1987"}]
    assert applied(found)["thought", 2] == "The page says so."
    assert spoken(shown) == [found[-1]["answer"]] == ["in the year 1987"]


# --- servers


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama_cpp", "transformers"])
async def test_the_answer_of_a_server_is_there_before_the_server_has_finished(
    chat_server: Callable[..., Any], kind: str
) -> None:
    server = chat_server(kind)
    server.says, server.held = "<answer>" + "a long answer " * 9 + "</answer>", threading.Event()
    policy = OpenAICompatiblePolicy(model="m", base_url=server.url)
    found = []
    async with asyncio.timeout(15):
        async for event in direct.graph.astream(
            QUESTION, context=testing.context([], policy=policy), stream_mode="custom"
        ):
            found.append(event)
            if event["type"] == "answer" and event["text"]:
                server.held.set()  # only now the server goes on
    assert len([event for event in found if event["type"] == "answer"]) > 10
    assert answer_of(found) == found[-1]["answer"] == ("a long answer " * 9).strip()


async def test_the_answer_of_a_tool_call_is_told_while_the_server_writes_it(chat_server: Callable[..., Any]) -> None:
    """And the turn is the one that comes whole."""
    server, write = chat_server("vllm"), NativeTools().write
    turns = [write("", SearchByText("kestrel")), write("The page says so.", Answer("in the “year” \\ 1987 \U0001f5ff"))]
    server.says = lambda body: turns[sum(message["role"] == "assistant" for message in body["messages"])]
    context = testing.context([], "tools", policy=OpenAICompatiblePolicy(model="m", base_url=server.url))
    found, states = [], []
    async for mode, part in search_agent.graph.astream(
        QUESTION, context=context, stream_mode=["custom", "values"], output_keys=EVERYTHING
    ):
        (found if mode == "custom" else states).append(part)
    pieces = [event["text"] for event in found if event["type"] == "answer"]
    assert len(pieces) > 10
    assert "".join(pieces) == found[-1]["answer"] == "in the “year” \\ 1987 \U0001f5ff"
    assert applied(found)["thought", 2] == "The page says so."
    whole = await search_agent.graph.ainvoke(QUESTION, context=context, output_keys=EVERYTHING)

    def calls(state: dict[str, Any]) -> list[Any]:
        turns = [message for message in state["dialogue"] if isinstance(message, AIMessage)]
        return [(turn.text, [(call["name"], call["args"]) for call in turn.tool_calls]) for turn in turns]

    assert calls(states[-1]) == calls(whole)


async def test_a_server_that_breaks_off_in_its_answer_is_asked_again(chat_server: Callable[..., Any]) -> None:
    server = chat_server("vllm")
    server.says, server.cut = "<answer>" + "a long answer " * 9 + "</answer>", True
    policy = OpenAICompatiblePolicy(model="m", base_url=server.url)
    found = await told([], direct, policy=policy)
    assert [body.get("stream", False) for body in server.requests] == [True, False]
    assert answer_of(found) == found[-1]["answer"] == ("a long answer " * 9).strip()


# --- nobody listens


async def test_without_a_reader_the_policy_is_not_streamed_and_nothing_is_told() -> None:
    policy = Streaming(turns=TURNS)
    context = testing.context([], policy=policy)
    await search_agent.graph.ainvoke(QUESTION, context=context)
    async for _ in search_agent.graph.astream(QUESTION, context=context, stream_mode=["updates", "values"]):
        pass
    assert (policy.streamed, policy.whole) == (0, 6)


async def test_langgraphs_writer_shows_whether_somebody_streams() -> None:
    """The one place that leans on how LangGraph is built; where this is red, read `heard`."""
    found = []

    async def look(state: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
        found.append(heard(runtime.stream_writer))
        return {}

    inner = StateGraph(dict).add_node("look", look).add_edge(START, "look").compile()
    outer = StateGraph(dict).add_node("inner", inner).add_edge(START, "inner").compile()
    for graph in (inner, outer):
        await graph.ainvoke({"a": 1})
        for modes, subgraphs in ((["updates", "messages"], True), ("custom", True), (["values", "custom"], False)):
            async for _ in graph.astream({"a": 1}, stream_mode=modes, subgraphs=subgraphs):
                pass
    assert found == [False, False, True, True, False, False, True, False]
    assert not heard(Runtime().stream_writer)


# --- messages


class Chat(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    answer: str


def in_parent(module: Any, checkpointer: Any = None) -> Any:
    wiring = StateGraph(Chat, context_schema=Context)
    wiring.add_node("look", module.graph)
    wiring.add_edge(START, "look")
    return wiring.compile(checkpointer=checkpointer)


def chat(text: str = "When?") -> dict[str, Any]:
    """The question as a chat; a follow-up comes without a picture."""
    picture = io.BytesIO()
    QUESTION["images"][0].save(picture, "PNG")
    data = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
    block = {"type": "image_url", "image_url": {"url": data}}
    return {"messages": [{"role": "user", "content": [block, {"type": "text", "text": text}]}]}


def spoken(parts: Iterator[Any]) -> list[str]:
    """The texts of the messages in a stream of them."""
    return [str(message.text) for message, _ in parts]


@GRAPHS
@pytest.mark.parametrize("policy", [testing.ScriptedPolicy, Streaming])
@pytest.mark.parametrize("given", [QUESTION, chat()])
async def test_the_messages_stream_shows_the_answer_once_and_nothing_else(
    module: Any, policy: Any, given: dict[str, Any]
) -> None:
    turns = [ANSWER] if module is direct else [TEXT, ANSWER]
    context = testing.context([], policy=policy(turns=turns))
    found = [part async for part in module.graph.astream(given, context=context, stream_mode="messages")]
    assert spoken(found) == ["in the year 1987"]
    assert (found[0][0].type, found[0][1]["langgraph_node"]) == ("ai", "answer")


@GRAPHS
@pytest.mark.parametrize("subgraphs", [False, True])
async def test_within_a_parent_graph_the_answer_is_shown_once_on_each_question_of_a_thread(
    module: Any, subgraphs: bool
) -> None:
    turns = [ANSWER] if module is direct else [TEXT, ANSWER]
    graph = in_parent(module, InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    for text in ("When?", "Is that so?"):
        context = testing.context([], policy=Streaming(turns=turns))
        parts = graph.astream(chat(text), thread, context=context, stream_mode="messages", subgraphs=subgraphs)
        found = [part async for part in parts]
        assert spoken([part[1] if subgraphs else part for part in found]) == ["in the year 1987"]


async def test_the_second_question_of_a_thread_shows_its_own_answer_only() -> None:
    graph = search_agent.build(InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    for number in ("1987", "1988"):
        context = testing.context([TEXT, f"<answer>{number}</answer>"])
        found = [part async for part in graph.astream(QUESTION, thread, context=context, stream_mode="messages")]
        assert spoken(found) == [number]


def test_synchronous_callers_have_both_streams_too() -> None:
    context = testing.context([], policy=Streaming(turns=TURNS))
    for graph, given in ((search_agent.graph, QUESTION), (in_parent(search_agent), chat())):
        parts = list(graph.stream(given, context=context, stream_mode=["custom", "messages"], subgraphs=True))
        assert spoken(part for _, mode, part in parts if mode == "messages") == ["in the year 1987"]
        found = [part for _, mode, part in parts if mode == "custom"]
        assert found[-1]["type"] == "end" and answer_of(found) == "in the year 1987"


class Asking(testing.FixedText):
    """A search that asks a chat model on its way."""

    async def asearch(self, query: str) -> Any:
        await Streaming(turns=["a summary"]).ainvoke(query)
        return await super().asearch(query)


async def test_what_a_model_inside_a_tool_writes_is_not_shown() -> None:
    context = testing.context([TEXT, ANSWER], text_search=Asking())
    found = [part async for part in search_agent.graph.astream(QUESTION, context=context, stream_mode="messages")]
    assert spoken(found) == ["in the year 1987"]


async def test_a_question_without_an_answer_shows_its_one_sentence() -> None:
    policy = Streaming(turns=["<answer>cut in the mid"])
    context = testing.context([], policy=policy)
    found = [part async for part in search_agent.graph.astream(QUESTION, context=context, stream_mode="messages")]
    assert spoken(found) == ["I have no answer: the policy's last turn could not be read."]
