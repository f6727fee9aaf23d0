"""Calls of tools in a model's message: read strictly, written as text, and kept in a form that every provider takes back.

As text a call is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, the form of Hermes and of Qwen's chat templates:
a policy in this process samples it, and records show it.

Invariant: a call is read from the message that the model wrote, never from another one; whatever a model wrote becomes a
`ToolUse`, one whose arguments cannot be read too.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from lensgraph.tools.safety.surrogates import whole

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_WRITTEN = re.compile(f"{OPENING}(.*?)(?:{CLOSING}|$)", re.DOTALL)
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
"""Characters that OpenAI and Anthropic refuse in the name of a tool."""
UNREADABLE = "unreadable"
"""Argument under which arguments that are no JSON object are sent back: vLLM refuses a dialogue that repeats them as they
were."""
NOTHING = "(nothing)"
"""Answer to a call that found no words: Anthropic refuses an empty text."""
CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""Reasons to finish, as OpenAI, Anthropic and Google name them, that say that a turn is longer than it may be."""


@dataclass(frozen=True)
class ToolUse:
    """One call of a tool."""

    name: str
    """The tool's name as the model wrote it; empty: it wrote none."""
    arguments: dict[str, Any] | None
    """None: they are no JSON object."""
    id: str = ""
    """The provider's name for this call; empty: it gave none."""
    raw: str = ""
    """The arguments as the model wrote them."""

    def written(self) -> str:
        """The call as text; one that has no name as the model wrote it."""
        if not self.name and self.arguments is None:
            return f"{OPENING}\n{self.raw}\n{CLOSING}"
        name = json.dumps(self.name, ensure_ascii=False)
        return f'{OPENING}\n{{"name": {name}, "arguments": {self.raw or _json(self.arguments)}}}\n{CLOSING}'

    def sent(self) -> dict[str, Any]:
        """The call in the form of OpenAI's chat completions."""
        function = {"name": self.name, "arguments": self.raw or _json(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def tool_use(name: Any, arguments: Any, identity: Any = None) -> ToolUse:
    """A call as a server or a chat model gives it; arguments are a text or an object."""
    given = arguments or {}  # some servers write nothing where a tool is given nothing
    raw = whole(given if isinstance(given, str) else _json(given))
    found, named = parsed(raw), whole(name) if isinstance(name, str) else ""
    identity = whole(identity) if isinstance(identity, str) else ""
    return ToolUse(named, found if named and isinstance(found, dict) else None, identity, raw)


def parsed(text: str) -> Any:
    """The value of a JSON text, all its strings fit to be sent; None: it is no JSON."""
    try:
        found = json.loads(text, parse_constant=_refused)
        return json.loads(whole(json.dumps(found, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None


def tool_uses(message: AIMessage) -> list[ToolUse]:
    """The calls of a message, in the order in which they are to be served: readable ones first where LangChain parts them."""
    sent = message.additional_kwargs.get("tool_calls")
    if isinstance(sent, list):  # as the server wrote them: LangChain completes what was cut off
        wire = [
            (one, one["function"])
            for one in sent
            if isinstance(one, Mapping) and isinstance(one.get("function"), Mapping)
        ]
        return [tool_use(function.get("name"), function.get("arguments"), one.get("id")) for one, function in wire]
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    return [tool_use(call.get("name"), call.get("args"), call.get("id")) for call in calls]


def as_text(message: BaseMessage) -> str:
    """All text of a message, not stripped, and the calls of a model's message behind it."""
    content = message.content
    text = content if isinstance(content, str) else "".join(map(_block_text, content))
    calls = tool_uses(message) if isinstance(message, AIMessage) else []
    return "\n".join([*([text] if text or not calls else []), *(call.written() for call in calls)])


def from_text(text: str) -> tuple[str, list[ToolUse]]:
    """The text beside the calls that are written in it, and the calls. One that is only thought of is none."""
    thought, closed, said = text.rpartition("</think>")
    if "<think>" in said:  # it has not ended
        return text.strip(), []
    rest = f"{thought}{closed}{_WRITTEN.sub('', said)}".strip()
    return rest, [_from_payload(payload.strip()) for payload in _WRITTEN.findall(said)]


def as_message(text: str, **fields: Any) -> AIMessage:
    """A turn that was written as text, as the message of a model that calls tools. `fields` are further ones of it."""
    rest, calls = from_text(text)
    return AIMessage(content=rest if calls else text, **fields, **langchain_calls(calls))


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A whole message as the only piece of a stream. The calls stand in it once more as they were written, because LangChain
    completes JSON that was cut off."""
    wire = [call.sent() for call in tool_uses(message)]
    fields = message.model_dump(exclude={"type"})
    fields["additional_kwargs"] |= {"tool_calls": wire} if wire else {}
    return AIMessageChunk(**fields, chunk_position="last")


def langchain_calls(calls: Sequence[ToolUse]) -> dict[str, Any]:
    """The fields of LangChain's message that hold calls."""
    return {
        "tool_calls": [
            {"type": "tool_call", "name": c.name, "args": c.arguments, "id": c.id or None}
            for c in calls
            if c.arguments is not None
        ],
        "invalid_tool_calls": [
            {"type": "invalid_tool_call", "name": c.name, "args": c.raw, "id": c.id or None, "error": None}
            for c in calls
            if c.arguments is None
        ],
    }


def offered(tools: Sequence[Any], choice: Any, render: Callable[[list[dict[str, Any]]], str]) -> list[dict[str, Any]]:
    """Tools in every form that LangChain takes, as a chat template is given them; `render` writes a dialogue with them.

    Raises:
        ValueError: the template offers no tools, or in a form in which calls are not read here; or a tool is demanded
            (`choice`), which would need a grammar.
    """
    found = [convert_to_openai_tool(tool) for tool in tools]
    if choice not in (None, "auto"):
        raise ValueError(f"tool_choice={choice!r}: a policy in this process chooses itself; leave it out")
    text = render(found)
    if OPENING not in text or '"arguments"' not in text:
        raise ValueError("its chat template does not offer tools in the form of Hermes")
    return found


def sendable(message: AIMessage) -> AIMessage:
    """The message as it can be sent back: as it is, unless a call has no id of its own, an odd name or no arguments."""
    calls: list[ToolUse] = []
    for call in tool_uses(message):
        taken = {"", *(other.id for other in calls)}
        identity = uuid.uuid4().hex[:9] if call.id in taken else call.id  # Mistral takes nine characters
        arguments = {UNREADABLE: call.raw} if call.arguments is None else call.arguments
        name = _NO_NAME.sub("_", call.name)[:64] or "unknown"
        calls.append(replace(call, id=identity, name=name, arguments=arguments))
    as_they_were = [(call["name"], call["args"], call["id"]) for call in message.tool_calls]
    if as_they_were == [(call.name, call.arguments, call.id) for call in calls] and not message.invalid_tool_calls:
        return message
    rest = {key: value for key, value in message.additional_kwargs.items() if key != "tool_calls"}
    return message.model_copy(update={"additional_kwargs": rest, **langchain_calls(calls)})


def unanswered(dialogue: Sequence[BaseMessage]) -> list[ToolUse]:
    """The calls of the last turn that no tool's message has answered yet."""
    answered: set[str] = set()
    for message in reversed(dialogue):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in tool_uses(message) if call.id not in answered]
    return []


def answered(call: ToolUse, text: str, artifact: Any = None) -> ToolMessage:
    """The answer to a call. The artifact is for the program, and no provider is sent it."""
    return ToolMessage(text.strip() or NOTHING, tool_call_id=call.id, name=call.name, artifact=artifact or None)


def reasoning(message: AIMessage) -> str:
    """The reasoning that a model wrote beside its turn: vLLM's and DeepSeek's field, or blocks of its content."""
    blocks = [block for block in message.content if isinstance(block, dict)]
    written = [str(message.additional_kwargs.get("reasoning_content") or ""), *map(_reasoning_of, blocks)]
    return "\n".join(part.strip() for part in written if part.strip())


def cut_short(message: AIMessage) -> str:
    """Why a turn may be unreadable, and what to change, where the server's own word for its end tells; else empty."""
    if was_cut(message):
        return "the turn is longer than it may be; raise policy.max_new_tokens"
    if message.response_metadata.get("finish_reason") == "content_filter":
        return "the server's content filter stopped it; ask in other words, or set another policy.model"
    if reasoning(message) and not as_text(message).strip():
        return (
            "all of the turn is reasoning; raise policy.max_new_tokens, or serve the model without a reasoning parser"
        )
    return ""


def was_cut(message: AIMessage) -> bool:
    """Whether a turn ended because it may not be longer."""
    told = message.response_metadata
    return bool(CUT & {str(told.get("finish_reason")), str(told.get("stop_reason"))})


def _reasoning_of(block: dict[str, Any]) -> str:
    """OpenAI's summaries, Anthropic's thinking, LangChain's own block."""
    summaries = block.get("summary") if block.get("type") == "reasoning" else None
    if isinstance(summaries, list):
        return "\n".join(str(part.get("text") or "") for part in summaries if isinstance(part, dict))
    return str(block.get(str(block.get("type"))) or "") if block.get("type") in ("reasoning", "thinking") else ""


def _from_payload(payload: str) -> ToolUse:
    found = parsed(payload)
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return ToolUse("", None, raw=payload)
    return tool_use(found["name"], found.get("arguments"))


def _block_text(block: str | dict[str, Any]) -> str:
    return block if isinstance(block, str) else str(block.get("text", ""))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # nested too deep, or in itself
        return ""


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
