"""Calls of tools in a model's message: read, written as text, and made fit to be sent back."""

import json
import random
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.chat.tool_calls import ToolUse, tool_use


def call(name: str = "text_search", identity: str | None = "1", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "name": name, "args": arguments, "id": identity}


def wire(name: Any, arguments: Any, identity: Any = "1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"query": "q"}', {"query": "q"}), ({"query": "q"}, {"query": "q"}), ("", {}), (None, {}), ("{}", {}),
        ('{"query": "q"', None), ("[1]", None), ('"q"', None), ("null", None), ("NaN", None), ('{"a": Infinity}', None),
        ("[" * 100_000, None), ('{"a":' * 100_000, None), ("1" * 10_000, None), ('{"a": "\\ud83d"}', {"a": "\ufffd"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}), (7, None), (["q"], None),
    ],
)  # fmt: skip
def test_arguments_are_a_json_object_or_unreadable(arguments: Any, read: Any) -> None:
    assert tool_use("t", arguments).arguments == read


def test_a_call_of_a_message_is_read_as_the_server_wrote_it_where_that_is_kept() -> None:
    """LangChain completes what was cut off, when it adds up the pieces of a stream."""
    piece = AIMessageChunk("", tool_call_chunks=[{"name": "t", "args": '{"query": "kes', "id": "1", "index": 0}])
    assert tool_calls.tool_uses(piece + AIMessageChunk(""))[0].arguments == {"query": "kes"}
    kept = piece + AIMessageChunk("", additional_kwargs={"tool_calls": [wire("t", '{"query": "kes')]})
    assert tool_calls.tool_uses(kept)[0].arguments is None


@pytest.mark.parametrize("text", ["", "words", "words\nand more"])
def test_what_is_written_is_read(text: str) -> None:
    calls = [call(query='q "x" \u00e4 </b>'), call("crop", "2", region="the <lamp>"), call("image_search", "3")]
    written = tool_calls.as_text(AIMessage(text, tool_calls=calls))
    rest, read = tool_calls.from_text(written)
    assert rest == text
    assert [(one.name, one.arguments) for one in read] == [(one["name"], one["args"]) for one in calls]
    assert tool_calls.as_text(tool_calls.as_message(written)) == written


@pytest.mark.parametrize("payload", ["{", "[]", "{}", '{"name": 7}', '{"name": "t"', "[" * 10_000, "\x00"])
def test_a_call_that_cannot_be_read_is_written_as_it_was(payload: str) -> None:
    message = tool_calls.as_message(f"<tool_call>\n{payload}\n</tool_call>")
    assert [one.arguments for one in tool_calls.tool_uses(message)] == [None]
    assert tool_calls.as_text(message) == f"<tool_call>\n{payload}\n</tool_call>"


def test_a_call_that_was_cut_off_at_the_end_is_a_call() -> None:
    assert tool_calls.from_text('so <tool_call>{"name": "t"')[1] == [ToolUse("", None, raw='{"name": "t"')]


@pytest.mark.parametrize(
    ("text", "rest", "names"),
    [
        ("<think>{}?</think>\n{}", "<think>{}?</think>", ["crop"]),
        ("I might {}.</think>so {}", "I might {}.</think>so", ["crop"]),
        ("<think>{}", "<think>{}", []),
        ("<think>a</think>{}{}", "<think>a</think>", ["crop", "crop"]),
    ],
)
def test_a_call_that_is_only_thought_of_is_none(text: str, rest: str, names: list[str]) -> None:
    written = ToolUse("crop", {"region": "it"}).written()
    found, calls = tool_calls.from_text(text.replace("{}", written))
    assert (found, [one.name for one in calls]) == (rest.replace("{}", written), names)


def test_a_good_message_goes_back_as_it_is() -> None:
    message = AIMessage(
        [{"type": "thinking", "thinking": "t", "signature": "s"}], tool_calls=[call(), call("crop", "2")]
    )
    assert tool_calls.sendable(message) is message
    assert tool_calls.sendable(AIMessage("words")).content == "words"


ODD = [
    [wire("t", "{}", None)], [wire("t", "{}"), wire("t", "{}")], [wire("", "{}")], [wire(None, None, 7)],
    [wire("a b\n", '{"q"')], [wire("x" * 100, "[]", "")],
]  # fmt: skip


@pytest.mark.parametrize("calls", ODD)
def test_an_odd_call_is_mended_so_that_every_provider_takes_it_back(calls: list[Any]) -> None:
    read = [tool_use(c["function"]["name"], c["function"]["arguments"], c["id"]) for c in calls]
    message = AIMessage("w", additional_kwargs={"tool_calls": calls, "k": 1}, **tool_calls.langchain_calls(read))
    mended = tool_calls.sendable(message)
    found = [one.sent() for one in tool_calls.tool_uses(mended)]
    assert len({one["id"] for one in found}) == len(calls) and all(one["id"] for one in found)
    assert all(one["function"]["name"].replace("_", "").replace("-", "").isalnum() for one in found)
    assert all(len(one["function"]["name"]) <= 64 for one in found)
    assert all(isinstance(json.loads(one["function"]["arguments"]), dict) for one in found)
    assert (mended.content, mended.additional_kwargs) == ("w", {"k": 1})
    assert [one["id"] for one in mended.tool_calls] == [one["id"] for one in found]


def test_the_calls_without_an_answer_are_those_of_the_last_turn() -> None:
    turn = AIMessage("", tool_calls=[call(), call("crop", "2")])
    dialogue = [HumanMessage("q"), turn, ToolMessage("r", tool_call_id="2")]
    assert [one.id for one in tool_calls.unanswered(dialogue)] == ["1"]
    assert tool_calls.unanswered([*dialogue, AIMessage("done")]) == tool_calls.unanswered([]) == []


@pytest.mark.parametrize(
    ("message", "thought"),
    [
        (AIMessage("x", additional_kwargs={"reasoning_content": " a "}), "a"),
        (AIMessage([{"type": "thinking", "thinking": "a", "signature": "s"}, {"type": "text", "text": "x"}]), "a"),
        (AIMessage([{"type": "reasoning", "reasoning": "a"}]), "a"),
        (AIMessage([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}]}]), "a\nb"),
        (AIMessage([{"type": "redacted_thinking", "data": "x"}, {"type": "thinking"}, {"type": "reasoning", "summary": 7}]), ""),
        (AIMessage("x", additional_kwargs={"reasoning_content": None}), ""),
    ],
)  # fmt: skip
def test_reasoning_is_read_in_the_form_of_each_provider(message: AIMessage, thought: str) -> None:
    assert tool_calls.reasoning(message) == thought


def test_any_calls_survive_a_checkpoint_and_go_back() -> None:
    """Random calls, as a server may write them: read, kept, and sent without an exception."""
    draw, serde = random.Random(0), JsonPlusSerializer()
    values = [
        "",
        "{",
        "[" * 2_000,
        '{"a": "\\ud800"}',
        '{"query": "q"}',
        None,
        7,
        [],
        {},
        {"a": "\udc00"},
        "\ud800",
        "NaN",
        True,
    ]
    for _ in range(2_000):
        sent = [wire(draw.choice(values), draw.choice(values), draw.choice(values)) for _ in range(draw.randrange(4))]
        read = [tool_use(c["function"]["name"], c["function"]["arguments"], c["id"]) for c in sent]
        message = AIMessage("w", additional_kwargs={"tool_calls": sent}, **tool_calls.langchain_calls(read))
        mended = tool_calls.sendable(message)
        json.dumps([one.sent() for one in tool_calls.tool_uses(mended)], ensure_ascii=False).encode()
        tool_calls.as_text(message).encode()
        if mended is not message:
            assert serde.loads_typed(serde.dumps_typed(mended)).tool_calls == mended.tool_calls
