"""The dialect of native tool calls, in the graphs: through the clients that people use, against a server as strict as theirs."""

import asyncio
import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling_server import CallingServer, said
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from PIL import Image

from lensgraph.agent import config as configuration
from lensgraph.agent import testing, usage
from lensgraph.agent.actions import Answer, Crop, SearchByImage, SearchByText
from lensgraph.agent.config import ConfigError
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.graphs.program.main import main
from lensgraph.graphs.tool import as_tool
from lensgraph.tools.results import Hit

PICTURE = Image.new("RGB", (64, 48), "navy")
QUESTION = {"question": "When was it automated?", "images": [PICTURE]}
Start = Callable[..., CallingServer]
EPISODE = [
    said(
        ("image_search", {"region": "the tower"}), ("text_search", {"query": "kestrel"}), thought="Which tower is it?"
    ),
    said(("crop", {"region": "the sign"}), text="Let me look.", thought="Which tower is it?"),
    said(("answer", {"text": "1987"}), thought="Which tower is it?"),
]


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(out, "PNG")
    return out.getvalue()


def written(*actions: Any, thought: str = "") -> str:
    """A turn of a scripted policy."""
    return "\n".join([*([thought] if thought else []), *(build("tools").write("", action) for action in actions)])


async def ask(policy: Any, graph: Any = search_agent.graph, **fields: Any) -> dict[str, Any]:
    """The final state of a question."""
    given = {"policy": policy} if not isinstance(policy, list) else {}
    context = testing.context(policy if isinstance(policy, list) else [], "tools", **{**given, **fields})
    state: dict[str, Any] = await graph.ainvoke(QUESTION, context=context, output_keys=EVERYTHING)
    return {**state, "context": context}


def nodes(state: dict[str, Any]) -> list[str]:
    return [step["node"] for step in state["steps"]]


def with_limits(**limits: Any) -> dict[str, Any]:
    config = configuration.load_config(None, ["dialect.name=tools"])
    return {"config": config.model_copy(update={"limits": config.limits.model_copy(update=limits)})}


def every_call_has_its_answer(dialogue: list[BaseMessage]) -> bool:
    """As providers demand it: behind each turn stand the answers to its calls, before anything else."""
    waiting: list[str] = []
    for message in dialogue:
        if isinstance(message, ToolMessage):
            waiting.remove(message.tool_call_id)
            continue
        if waiting:
            return False
        if isinstance(message, AIMessage):
            waiting = [str(call["id"]) for call in message.tool_calls]
    return True


# --- the clients that people use


def openai(server: CallingServer, **fields: Any) -> Any:
    module = pytest.importorskip("langchain_openai")
    return module.ChatOpenAI(model="m", base_url=server.url, api_key="k", max_retries=0, **fields)


def anthropic(server: CallingServer, **fields: Any) -> Any:
    module = pytest.importorskip("langchain_anthropic")
    return module.ChatAnthropic(model="m", base_url=server.root, api_key="k", max_retries=0, **fields)


def ours(server: CallingServer, **fields: Any) -> OpenAICompatiblePolicy:
    return OpenAICompatiblePolicy(model="m", base_url=server.url, retries=0, **fields)


CLIENTS = {
    "ChatOpenAI": openai,
    "ChatOpenAI, streamed": lambda server: openai(server, streaming=True, stream_usage=True),
    "ChatAnthropic": anthropic,
    "ours": ours,
    "ours, streamed": lambda server: ours(server, streaming=True),
}


@pytest.mark.contract
@pytest.mark.parametrize("client", list(CLIENTS))
async def test_an_episode_with_several_calls_in_a_turn_through(client: str, calling_server: Start) -> None:
    reasons = client.startswith("ours")  # ChatOpenAI drops a field that is not OpenAI's
    server = calling_server([turn if reasons else {**turn, "thought": ""} for turn in EPISODE])
    image = testing.FixedImage(hits=[testing.PAGE.model_copy(update={"thumbnail": png("red")})])
    state = await ask(CLIENTS[client](server), image_search=image)
    assert (state["answer"], state["stop_reason"]) == ("1987", "answered")
    assert nodes(state) == ["reason", "crop", "image_search", "text_search", "reason", "crop", "reason"]
    assert state["usage"]["searches"] == {"image": 1, "text": 1}
    shown = re.findall(r'"type": "image_url"', json.dumps([body["messages"] for body in server.requests]))
    assert state["usage"]["tokens"] == {"in": 150 + len(shown), "out": 27}
    assert state["context"].text_search.asked == ["kestrel"]
    assert len(server.requests) == 3
    sent = json.dumps(server.requests[-1])
    assert sent.count("iVBORw0KGgo") + sent.count("/9j/") == 4  # the question's, the part, the thumbnail, the crop
    thoughts = [step["thought"] for step in state["steps"] if step["node"] == "reason"]
    if client == "ChatAnthropic" or reasons:
        assert thoughts == ["Which tower is it?", "Let me look.", "Which tower is it?"]


async def test_a_crop_is_shown_behind_the_answers_of_all_calls() -> None:
    turns = [written(Crop("the lamp"), SearchByText("q")), written(Answer("1987"))]
    dialogue = (await ask(turns))["dialogue"]
    assert [type(message) for message in dialogue[1:5]] == [AIMessage, ToolMessage, ToolMessage, HumanMessage]
    assert all(isinstance(message.content, str) for message in dialogue[2:4])
    kinds = [block["type"] for block in dialogue[4].content]
    assert kinds == ["text", "text", "image"]
    assert "the lamp" in dialogue[4].content[0]["text"]


async def test_thumbnails_come_with_their_numbers() -> None:
    def hit(colour: str) -> Hit:
        return Hit(title=colour, url=f"https://example.org/{colour}", thumbnail=png(colour))

    hits = [hit("red"), Hit(title="none", url="https://example.org/none"), hit("green")]
    turns = [written(SearchByImage()), written(Answer("1987"))]
    state = await ask(turns, image_search=testing.FixedImage(hits=hits))
    told, shown = state["dialogue"][2:4]
    assert told.content == "1. red\n2. none\n3. green"
    labels = [block["text"] for block in shown.content if block["type"] == "text"]
    assert [label.strip() for label in labels[1:]] == ["Picture of result 1:", "Picture of result 3:"]
    assert [block.get("thumbnail") for block in shown.content if block["type"] == "image"] == [True, True]


# --- mistakes and limits are told, and each call has its answer


MISTAKES = {
    "an unknown tool": '<tool_call>{"name": "browse", "arguments": {"url": "u"}}</tool_call>',
    "no JSON": '<tool_call>{"name": "text_search", "arguments": {"query": "q"</tool_call>',
    "deep JSON": f"<tool_call>{'[' * 100_000}</tool_call>",
    "no name": '<tool_call>{"arguments": {}}</tool_call>',
    "no argument": '<tool_call>{"name": "text_search", "arguments": {}}</tool_call>',
    "another argument": '<tool_call>{"name": "text_search", "arguments": {"query": "q", "site": "s"}}</tool_call>',
    "a wrong type": '<tool_call>{"name": "crop", "arguments": {"region": [1, 2]}}</tool_call>',
    "a blank query": '<tool_call>{"name": "text_search", "arguments": {"query": "  "}}</tool_call>',
    "a list for arguments": '<tool_call>{"name": "text_search", "arguments": ["q"]}</tool_call>',
    "half a character": '<tool_call>{"name": "crop", "arguments": {"part": "\\ud83d"}}</tool_call>',
    "nothing": "",
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
async def test_a_mistake_is_told_and_the_policy_goes_on(mistake: str) -> None:
    state = await ask([MISTAKES[mistake], written(Answer("1987"))])
    assert (state["answer"], nodes(state)) == ("1987", ["reason", "reason"])
    assert state["steps"][0]["action"]["kind"] == "malformed"
    assert str(state["dialogue"][2].content).startswith("error: ")
    assert every_call_has_its_answer(state["dialogue"])


@pytest.mark.parametrize("mistake", list(MISTAKES))
async def test_a_mistake_beside_a_good_call_does_not_stop_it(mistake: str) -> None:
    state = await ask([MISTAKES[mistake] + written(SearchByText("q")), written(Answer("1987"))])
    assert (state["answer"], nodes(state)) == ("1987", ["reason", "text_search", "reason"])
    assert every_call_has_its_answer(state["dialogue"])


async def test_mistakes_end_with_the_turns() -> None:
    state = await ask([MISTAKES["an unknown tool"]] * 20, **with_limits(turns=4))
    assert (state["answer"], state["stop_reason"], state["usage"]["turns"]) == (None, "malformed", 4)


async def test_calls_beyond_a_limit_are_told_and_the_others_served() -> None:
    state = await ask(
        [written(*[SearchByImage()] * 4, SearchByText("q")), written(Answer("1987"))], **with_limits(image_searches=2)
    )
    assert nodes(state) == ["reason", "image_search", "image_search", "text_search", "reason"]
    assert state["answer"] == "1987"
    told = [message.content for message in state["dialogue"] if isinstance(message, ToolMessage)]
    assert sum("no image searches left" in str(content) for content in told) == 2
    assert every_call_has_its_answer(state["dialogue"])
    kinds = [action["kind"] for action in state["steps"][0]["actions"]]
    assert kinds == ["image_search", "image_search", "over_limit", "over_limit", "text_search"]


@pytest.mark.parametrize("calls", [1, 3, 10])
async def test_no_number_of_calls_in_a_turn_makes_more_than_the_limit(calls: int) -> None:
    cycle = itertools.cycle([SearchByText("q"), Crop("x"), SearchByImage("y"), SearchByImage()])
    turns = [written(*itertools.islice(cycle, 40))] * 7 + [written(Answer("1987"))]
    state = await ask(turns, **with_limits(tool_calls=calls))
    made = [step for step in state["steps"] if step["node"] != "reason" and not step.get("to_search")]
    assert (len(made), state["answer"]) == (calls, "1987")


async def test_calls_in_the_last_turn_end_the_episode() -> None:
    state = await ask([written(SearchByText("q"))] * 2, **with_limits(turns=2))
    assert (state["answer"], state["stop_reason"]) == (None, "turn_limit")


@pytest.mark.parametrize("turns", [1, 8])
async def test_an_answer_counts_whatever_stands_beside_it(turns: int) -> None:
    """The calls before it are served if they may be, those behind it are not."""
    state = await ask([written(SearchByText("q"), Answer("1987"), SearchByText("never"))], **with_limits(turns=turns))
    assert (state["answer"], state["stop_reason"]) == ("1987", "answered")
    assert state["context"].text_search.asked == ([] if turns == 1 else ["q"])


async def test_the_price_of_a_turn_is_that_of_its_calls_together() -> None:
    class Dear(testing.FixedText):
        price_per_call: float = 0.4

    state = await ask([written(*[SearchByText("q")] * 4)] * 2, text_search=Dear(), **with_limits(price=1.0))
    assert (len(state["context"].text_search.asked), state["stop_reason"]) == (2, "price_limit")


async def test_the_clock_is_looked_at_before_every_call() -> None:
    class Slow(testing.FixedText):
        async def asearch(self, query: str) -> Any:
            await asyncio.sleep(0.6)
            return await super().asearch(query)

    turns = [written(*[SearchByText("q")] * 3), written(Answer("1987"))]
    state = await ask(turns, text_search=Slow(), **with_limits(seconds=0.5))
    assert (state["answer"], len(state["context"].text_search.asked)) == ("1987", 1)
    assert every_call_has_its_answer(state["dialogue"])


async def test_tools_that_fail_are_told_each_to_its_call() -> None:
    turns = [written(Crop("x"), SearchByImage("y"), SearchByText("q"), SearchByImage()), written(Answer("1987"))]
    tools = {
        "locate": testing.FixedLocator(box=None), "text_search": testing.FixedText(hits=[]),
        "image_search": testing.FixedImage(hits=[]),
    }  # fmt: skip
    state = await ask(turns, **tools)
    told = [message.content for message in state["dialogue"] if isinstance(message, ToolMessage)]
    assert state["answer"] == "1987" and len(told) == 4
    assert all(str(content).startswith("error: ") for content in told)
    assert every_call_has_its_answer(state["dialogue"])


async def test_a_region_that_is_only_looked_at_is_no_part_of_the_search_behind_it() -> None:
    state = await ask([written(Crop("x"), SearchByImage()), written(Answer("1987"))])
    assert state["context"].image_search.asked == [(64, 48)]
    assert state["usage"]["searches"] == {"image": 1, "text": 0}


# --- answers in plain words


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("1987", "1987"),
        ("  It was 1987.\n", "It was 1987."),
        ("<think>Old.</think>1987", "1987"),
        ("It looks old.\n</think>\n\n1987", "1987"),
        ("Unable to answer due to lack of relevant information.", None),
    ],
)
async def test_plain_words_are_an_answer(words: str, answer: str | None) -> None:
    state = await ask([words])
    assert (state["answer"], state["stop_reason"]) == (answer, "answered" if answer else "gave_up")


async def test_a_turn_that_ends_within_its_reasoning_is_no_answer() -> None:
    state = await ask(["<think>It looks old, perhaps 1950", "1987"])
    assert state["answer"] == "1987"
    assert "ended within its reasoning" in str(state["dialogue"][2].content)


async def test_a_turn_that_was_cut_off_is_no_answer(calling_server: Start) -> None:
    server = calling_server([said(text="The tower was autom"), said(("answer", {"text": "1987"}))])
    server.finish = "length"
    state = await ask(ours(server), **with_limits(turns=2))
    assert (state["answer"], state["stop_reason"]) == (None, "malformed")
    assert "cut off" in str(state["dialogue"][2].content)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("client", [openai, ours])
async def test_half_a_call_is_none(client: Any, streaming: bool, calling_server: Start) -> None:
    """LangChain completes JSON that was cut off; the server cuts it at the longest turn."""
    server = calling_server([said(("text_search", '{"query": "kestrel po'))])
    server.finish = "length"
    state = await ask(client(server, streaming=streaming), **with_limits(turns=1))
    assert (state["stop_reason"], state["context"].text_search.asked) == ("malformed", [])


async def test_a_call_in_the_text_is_none_unless_the_dialect_is_lenient(calling_server: Start) -> None:
    """A server without a parser for the model leaves it there."""
    script = [said(text=written(SearchByText("q"))), said(("answer", {"text": "1987"}))]
    strict = await ask(ours(calling_server(script)))
    assert (strict["context"].text_search.asked, strict["answer"]) == ([], "1987")
    lenient = await ask(ours(calling_server(script)), lenient=True)
    assert (lenient["context"].text_search.asked, lenient["answer"]) == (["q"], "1987")


@pytest.mark.parametrize(
    "call",
    [
        ("TextSearch", {"query": "q"}), ("functions.text_search", {"query": "q"}), ("text_search", {"q": "q"}),
        ("text-search", {"query": "q", "lang": "en"}),
    ],
)  # fmt: skip
async def test_lenient_reading_forgives_spellings(call: Any, calling_server: Start) -> None:
    script = [said(call), said(("answer", {"text": 1987}))]
    state = await ask(ours(calling_server(script)), lenient=True)
    assert (state["context"].text_search.asked, state["answer"]) == (["q"], "1987")


# --- what a server may write


@pytest.mark.contract
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("wire", ["openai", "no_index", "one_index"])
async def test_every_wire_of_calls_is_read(wire: str, streaming: bool, ids: bool, calling_server: Start) -> None:
    server = calling_server(EPISODE)
    server.wire, server.ids, server.thought_field = wire, ids, "reasoning"
    if wire == "one_index" and not ids:
        pytest.skip("nothing tells two calls apart")
    state = await ask(ours(server, streaming=streaming))
    assert (state["answer"], state["context"].text_search.asked) == ("1987", ["kestrel"])
    assert nodes(state).count("crop") == 2


async def test_a_call_that_cannot_be_read_does_not_spoil_the_dialogue(calling_server: Start) -> None:
    """Sent back as it was, vLLM would refuse every further turn."""
    script = [
        said(("text_search", '{"query": '), ("odd name!", {})),
        said(("text_search", "[1]")),
        said(("answer", {"text": "1987"})),
    ]
    server = calling_server(script)
    state = await ask(ours(server))
    assert (state["answer"], len(server.requests)) == ("1987", 3)


# --- the same model outside of tools: threads, other graphs, callers


class Fake(FakeMessagesListChatModel):
    """LangChain's own fake with tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, **kwargs)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "name": name, "args": arguments, "id": f"id_{name}"}


async def test_a_chat_model_of_anybody_is_a_policy() -> None:
    policy = Fake(responses=[AIMessage("", tool_calls=[call("text_search", query="q")]), AIMessage("1987")])
    state = await ask(policy)
    assert (state["answer"], state["context"].text_search.asked) == ("1987", ["q"])


async def test_a_message_is_kept_as_the_model_wrote_it() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "id_text_search", "name": "text_search", "input": {"query": "q"}},
    ]
    turn = AIMessage(blocks, tool_calls=[call("text_search", query="q")])  # type: ignore[arg-type]
    state = await ask(Fake(responses=[turn, AIMessage("1987")]))
    assert state["dialogue"][1].content == blocks
    assert state["steps"][0]["thought"] == "I look."


async def test_a_model_without_tools_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^dialect.name=tools: this policy cannot call tools"):
        await ask(FakeMessagesListChatModel(responses=[AIMessage("1987")]))


async def test_the_pocket_policy_is_refused_before_the_first_question() -> None:
    config = configuration.load_config(None, ["dialect.name=tools"])
    with pytest.raises(ConfigError, match="chat template does not offer tools"):
        await search_agent.graph.ainvoke(QUESTION, context=Context(config=config))


@pytest.mark.parametrize("ending", [Answer("1987"), SearchByText("q")])
async def test_a_follow_up_goes_on_where_a_call_was_open(ending: Any, calling_server: Start) -> None:
    """The answer of the first question is a call, or its last turn asked for one more search: neither has an answer yet."""
    name, given = ("answer", {"text": "1987"}) if isinstance(ending, Answer) else ("text_search", {"query": "q"})
    script = [said(("crop", {"region": "x"}), (name, given)), said(("answer", {"text": "Cornwall"}))]
    server = calling_server(script)
    graph, thread = search_agent.build(InMemorySaver()), {"configurable": {"thread_id": "t"}}
    context = testing.context([], "tools", policy=ours(server), **with_limits(turns=1))
    first = await graph.ainvoke(QUESTION, thread, context=context)
    assert first["stop_reason"] == ("answered" if isinstance(ending, Answer) else "turn_limit")
    second = await graph.ainvoke({"question": "Where is it?"}, thread, context=context, output_keys=EVERYTHING)
    assert (second["answer"], len(server.requests)) == ("Cornwall", 2)
    assert every_call_has_its_answer(second["dialogue"])


async def test_the_fixed_workflow_answers_every_call(calling_server: Start) -> None:
    script = [
        said(("text_search", {"query": "a"}), ("text_search", {"query": "b"})),
        said(("answer", {"text": "1987"})),
    ]
    state = await ask(ours(calling_server(script)), rag.graph)
    assert (state["answer"], state["context"].text_search.asked) == ("1987", ["a"])


async def test_the_baseline_without_searches(calling_server: Start) -> None:
    state = await ask(ours(calling_server([said(("answer", {"text": "1987"}))])), direct.graph)
    assert state["answer"] == "1987"
    searched = await ask(ours(calling_server([said(("text_search", {"query": "q"}))])), direct.graph)
    assert (searched["stop_reason"], searched["context"].text_search.asked) == ("search_limit", [])


async def test_another_agent_calls_it_as_its_tool(calling_server: Start) -> None:
    tool = as_tool(context=testing.context([], "tools", policy=ours(calling_server(EPISODE))))
    reply = await tool.ainvoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"question": "When?"}})
    assert reply.artifact["answer"] == "1987"


async def test_a_caller_chooses_it_from_the_operators_list() -> None:
    config = configuration.load_config(None, ["callers.dialects=[tools]"])
    context = testing.context([written(Answer("1987"))], None, config=config).model_copy(update={"dialect": "tools"})
    assert (await search_agent.graph.ainvoke(QUESTION, context=context))["answer"] == "1987"


async def test_a_stream_shows_no_call() -> None:
    context = testing.context([written(SearchByText("q")), written(Answer("1987"))], "tools")
    async for chunk, _ in search_agent.graph.astream(QUESTION, context=context, stream_mode="messages"):
        assert "<tool_call>" not in str(chunk.content)
        assert isinstance(chunk, BaseMessage | AIMessageChunk)


async def test_a_command_after_the_end_is_told_as_words_because_no_call_is_open() -> None:
    graph, thread = search_agent.build(InMemorySaver()), {"configurable": {"thread_id": "t"}}
    turns = [written(SearchByText("q")), written(Answer("1987")), written(Answer("1988"))]
    context = testing.context(turns, "tools")
    await graph.ainvoke(QUESTION, thread, context=context)
    action = {"kind": "text_search", "query": "again"}
    state = await graph.ainvoke(
        Command(goto="text_search", update={"action": action}), thread, context=context, output_keys=EVERYTHING
    )
    assert context.text_search.asked == ["q", "again"]
    assert state["answer"] == "1988"
    assert every_call_has_its_answer(state["dialogue"])


def test_a_box_is_not_asked_for() -> None:
    """Regions are words: a locator finds them."""
    kinds = {
        name: argument["type"]
        for tool in build("tools").tools
        for name, argument in tool["function"]["parameters"]["properties"].items()
    }
    assert kinds == {"region": "string", "query": "string", "text": "string"}


async def test_events_tell_each_call_and_the_answer_once() -> None:
    turns = [
        written(SearchByText("q"), SearchByImage(), thought="Hm."),
        MISTAKES["an unknown tool"],
        written(Answer("1987")),
    ]
    context = testing.context(turns, "tools")
    events = [event async for event in search_agent.graph.astream(QUESTION, context=context, stream_mode="custom")]
    told = [event.get("action", {}).get("kind") for event in events if event["type"] == "action"]
    assert told == ["text_search", "image_search", "malformed", "answer"]
    assert [event["text"] for event in events if event["type"] in ("thought", "answer")] == ["Hm.", "1987"]


# --- with a person, a budget of tokens, the program and the evaluation


async def test_a_person_decides_about_each_call_of_a_turn() -> None:
    """Approved, edited, rejected: each call gets its answer, and what is rejected does not count."""
    turns = [written(*[SearchByText("q")] * 3, SearchByImage()), written(Answer("1987"))]
    context = testing.context(turns, "tools", approve=["text_search"], **with_limits(text_searches=3))
    graph, thread = search_agent.build(InMemorySaver()), {"configurable": {"thread_id": "t"}}
    state = await graph.ainvoke(QUESTION, thread, context=context)
    edit = {"type": "edit", "edited_action": {"name": "text_search", "args": {"query": "other"}}}
    for verdict in ("approve", edit, {"type": "reject", "message": "enough"}):
        assert len(state["__interrupt__"]) == 1
        state = await graph.ainvoke(Command(resume=verdict), thread, context=context, output_keys=EVERYTHING)
    assert (state["answer"], context.text_search.asked) == ("1987", ["q", "other"])
    told = [str(message.content) for message in state["dialogue"] if isinstance(message, ToolMessage)]
    assert "A person changed this to: other" in told[1] and "a person rejected this: enough" in told[2]
    assert every_call_has_its_answer(state["dialogue"])
    assert usage.spent(state["steps"], state["started"], (0, 0)).text == 2


async def test_results_of_one_turn_share_the_tokens_that_are_left() -> None:
    """The second search is cut by what the first one took."""

    class Counting(testing.ScriptedPolicy):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            counted = {"input_tokens": 100, "output_tokens": 100, "total_tokens": 200}
            result.generations[0].message.usage_metadata = counted  # type: ignore[attr-defined]
            return result

    long = testing.FixedText(hits=[testing.PAGE.model_copy(update={"snippet": "word " * 240})])
    policy = Counting([written(*[SearchByText("q")] * 2), written(Answer("1987"))])
    state = await ask(policy, text_search=long, **with_limits(tokens=700))
    first, second = (len(str(m.content)) for m in state["dialogue"] if isinstance(m, ToolMessage))
    assert first > 1_000 and second < first - 300
    assert [step.get("cut_off") for step in state["steps"] if step["node"] == "text_search"] == [None, 1]


def test_the_program_asks_a_model_that_calls_tools(
    calling_server: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = calling_server([{**turn, "thought": ""} for turn in EPISODE])
    PICTURE.save(tmp_path / "a.png")
    settings = [
        "dialect.name=tools", "policy.kind=openai_compatible", "policy.model=m", f"policy.base_url={server.url}",
        "policy.retries=0", *(f"tools.{kind}.use=lensgraph.agent.testing:Fixed{name}" for kind, name in (
            ("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"),
        )),
    ]  # fmt: skip
    assert main(["ask", str(tmp_path / "a.png"), "When?", "--json", *settings]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["searches"], found["malformed"]) == ("1987", {"image": 1, "text": 1}, [])


def test_the_program_refuses_a_policy_that_cannot_call_tools_before_it_reads_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PICTURE.save(tmp_path / "a.png")
    assert main(["ask", str(tmp_path / "a.png"), "When?", "dialect.name=tools"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "dialect.name=tools: this policy cannot call tools" in line
