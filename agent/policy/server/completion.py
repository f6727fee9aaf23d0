"""A chat completion as a server wrote it, read from a whole answer or from the events of a stream.

Checked against vLLM, SGLang, llama.cpp and the server of transformers (`lensgraph.agent.policy.server.servers` names their
files). Invariant: whatever a server sent is either read into plain values or becomes a `PolicyError` without the `key`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.policy import stops as stops_of_turns
from lensgraph.agent.policy.server.refusals import TooLong, Transient, first_line, says_too_long, server_message
from lensgraph.agent.policy.stops import CLOSING_TAG
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.surrogates import whole

END = b"[DONE]"
"""Data of the event that ends a stream."""
LARGEST = 2**31
"""Largest id or number of tokens that is believed."""
UNKNOWN = -1
"""Stands for a token whose id or log-probability cannot be read."""
THOUGHT_FIELD = "reasoning_field"
"""Key of a reply's metadata: the server's name for the reasoning, under which it takes it back."""


@dataclass
class Completion:
    """One turn, or the part of it that has come so far."""

    text: str = ""
    """The turn's text."""
    thought: str = ""
    """Text that a server's reasoning parser took out of the turn."""
    thought_field: str = "reasoning_content"
    """The server's name for that text."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Calls of tools: `index`, `id`, `name` and `arguments`, a JSON text."""
    finish: str | None = None
    """`stop`, `length`, or the server's own word. None: the turn has not ended."""
    matched: str | None = None
    """The stop string at which it ended, if the server tells it."""
    ids: list[int] = field(default_factory=list)
    """Sampled token ids, if the server tells them."""
    logprobs: list[float] = field(default_factory=list)
    """Their log-probabilities."""
    usage: UsageMetadata | None = None
    """Tokens read and written. None: the server does not count, or not in numbers."""
    was_cut: bool = False
    """The turn was cut here, at a stop string that the server was not told."""
    _heard: int = 0
    _heard_calls: dict[int, int] = field(default_factory=dict)
    """Letters of the reasoning, and of each call's arguments, that were told as news."""

    def beside_text(self, model: str, left_out: Sequence[str], *, streamed: bool = False) -> dict[str, Any]:
        """All fields of the LangChain message but its text; `streamed`: but its `news`, too. Token ids are kept only if
        they are those of the whole turn."""
        tokens = {"token_ids": self.ids, "logprobs": self.logprobs}
        calls = [tool_calls.tool_use(call["name"], call["arguments"], call["id"]) for call in self.calls]
        # Without a part of a call LangChain would read the calls once more, from the server's form.
        behind = {"tool_call_chunks": [tool_call_chunk(args="", index=0)]} if calls else {}
        return {
            "additional_kwargs": {
                **({"reasoning_content": self.thought} if self.thought and not streamed else {}),
                **({"tool_calls": [call.sent() for call in calls]} if calls else {}),
            },
            **(behind if streamed else tool_calls.langchain_calls(calls)),
            "response_metadata": {
                "model_name": model,
                "finish_reason": self.finish,
                **({THOUGHT_FIELD: self.thought_field} if self.thought else {}),
                **(tokens if self._ids_add_up() else {}),
                **({"left_out": list(left_out)} if left_out else {}),
            },
            "usage_metadata": self.usage,
        }

    def news(self) -> dict[str, Any]:
        """Fields of a chunk: the reasoning and the parts of named calls that are new since the last time; empty: none."""
        thought, self._heard = self.thought[self._heard :], len(self.thought)
        parts = []
        for number, call in enumerate(self.calls):
            heard = self._heard_calls.get(number)
            if call["name"] and (heard is None or heard < len(call["arguments"])):
                first = {"name": call["name"], "id": call["id"] or None} if heard is None else {}
                parts.append(tool_call_chunk(args=call["arguments"][heard or 0 :], index=number, **first))
                self._heard_calls[number] = len(call["arguments"])
        return {
            **({"additional_kwargs": {"reasoning_content": thought}} if thought else {}),
            **({"tool_call_chunks": parts} if parts else {}),
        }

    def _ids_add_up(self) -> bool:
        """Whether each sampled token has its id and its log-probability. llama.cpp leaves the last token out of a stream, and
        the one at which a stop string ended the turn; only its usage tells."""
        counted = self.usage["output_tokens"] if self.usage else None
        return bool(self.ids) and UNKNOWN not in self.ids and len(self.ids) == len(self.logprobs) == counted

    def cut(self, stops: Sequence[str]) -> str:
        """The text up to a stop string that the server was not told (`servers.told_stops`). What was sampled behind it is
        dropped, and with it the ids, which are those of a longer turn."""
        text = stops_of_turns.cut(self.text, stops)
        if text != self.text:
            self.text, self.ids, self.logprobs, self.finish, self.was_cut = text, [], [], "stop", True
        return self.text

    def missing_stop(self, stops: Sequence[str]) -> str:
        """The closing tag at which the server stopped and that it cut off; empty if nothing is missing.

        A server that does not tell its stop string is taken to have stopped at the tag that was opened last and not closed."""
        if self.finish != "stop" or self.was_cut:
            return ""
        if self.matched in stops:
            tag = str(self.matched)
            return tag if CLOSING_TAG.fullmatch(tag) and not self.text.rstrip().endswith(tag) else ""
        opened: dict[int, str] = {}
        for stop in stops:
            name = CLOSING_TAG.fullmatch(stop)
            place = self.text.rfind(f"<{name[1]}>") if name else -1
            if place >= 0 and stop not in self.text[place:]:
                opened[place] = stop
        return opened[max(opened)] if opened else ""


def read_answer(body: bytes, where: str, key: str = "") -> Completion:
    """Read a whole answer; `where` is the address for messages.

    Raises:
        TooLong: it says with status 200, as some proxies and older llama.cpp do, that the request is too long.
        Transient: it is no chat completion.
    """
    completion = Completion()
    answer = _parsed(body, where, key)
    if isinstance(answer, dict) and "error" in answer and says_too_long(json.dumps(answer)):
        raise TooLong(f"{where}: {server_message(body, key)}")
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise _no_completion(where, body.decode("utf-8", "replace"), key)
    _add(completion, answer, "message", where, key)
    return completion


def read_event(completion: Completion, data: bytes, where: str, key: str = "") -> str:
    """Add one event of a stream to the completion; returns the text that it brought. The end of the stream (`END`) ends a turn
    that has begun, if the server did not say why it ended.

    Raises:
        TooLong: the stream begins with the message that the request is too long.
        Transient: the event is an error, or no part of a chat completion.
    """
    if data == END:
        if completion.finish is None and (completion.text or completion.thought or completion.calls):
            completion.finish = "stop"
        return ""
    event = _parsed(data, where, key)
    if not isinstance(event, dict) or event.get("error") or event.get("object") == "error":
        if not completion.text and says_too_long(data.decode("utf-8", "replace")):
            raise TooLong(f"{where}: {server_message(data, key)}")
        raise Transient(f"{where}: the stream broke off: {server_message(data, key)}")
    before = len(completion.text)
    _add(completion, event, "delta", where, key)
    return completion.text[before:]


def event_data(line: bytes) -> bytes | None:
    """The data in a line of a server-sent event stream. None: a comment or a blank line.

    Older llama.cpp tells an error in a field of its own, `error: {...}`, which becomes the data `{"error": {...}}`."""
    if line.startswith(b"error:"):
        return b'{"error": ' + line[6:].strip() + b"}"
    if not line.startswith(b"data:"):
        return None
    return line[5:].strip() or None


def _parsed(body: bytes, where: str, key: str) -> Any:
    try:
        return read_json(body)
    except ValueError as error:
        raise _no_completion(where, body.decode("utf-8", "replace"), key) from error


def _no_completion(where: str, text: str, key: str) -> Transient:
    return Transient(f"{where}: the answer is no chat completion ({first_line(text, key)})")


def _add(completion: Completion, answer: dict[str, Any], part: str, where: str, key: str) -> None:
    try:
        for choice in (answer.get("choices") or [])[:1]:  # the last event of a stream has none, only the usage
            said = choice.get(part) or {}
            completion.text += _text(said.get("content"))
            for name in ("reasoning", "reasoning_content"):  # vLLM renamed the field of its reasoning parsers
                if thought := _text(said.get(name)):
                    completion.thought, completion.thought_field = completion.thought + thought, name
                    break
            _add_calls(completion.calls, said.get("tool_calls") or [])
            finish = choice.get("finish_reason")
            completion.finish = whole(finish) if isinstance(finish, str) and finish else completion.finish
            # vLLM's and SGLang's names; a number is the id of a token, such as the end of a turn
            matched = choice.get("stop_reason", choice.get("matched_stop"))
            completion.matched = matched if isinstance(matched, str) else completion.matched
            _add_tokens(completion, choice)
        completion.usage = _usage(answer.get("usage")) or completion.usage
    except (AttributeError, KeyError, TypeError, ValueError):
        # Not `from error`: it may quote the server's text.
        raise _no_completion(where, json.dumps(answer), key) from None


def _add_tokens(completion: Completion, choice: dict[str, Any]) -> None:
    """Add sampled tokens. One that cannot be read costs all ids and log-probabilities, and not the turn."""
    try:
        tokens = (choice.get("logprobs") or {}).get("content") or []
        ids = choice.get("token_ids") or [token["id"] for token in tokens if "id" in token]
        completion.ids += [_count(token) for token in ids]
        completion.logprobs += [float(token["logprob"]) for token in tokens]
    except (AttributeError, KeyError, TypeError, ValueError):
        completion.ids.append(UNKNOWN)


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} counts nothing")
    return number


def _usage(counted: Any) -> UsageMetadata | None:
    try:
        read, wrote = (_count(counted.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
    except (AttributeError, TypeError, ValueError):
        return None
    return UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)


def _add_calls(calls: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    """Add whole calls, or the parts of calls in a stream. Some servers leave the index out, some always write 0."""
    for part in said:
        index, identity, function = part.get("index"), part.get("id") or "", part.get("function") or {}
        known = [call for call in calls if index is None or call["index"] == index][-1:]
        if not known or (identity and known[0]["id"] not in ("", identity)) or (index is None and function.get("name")):
            calls.append({"index": index, "id": "", "name": "", "arguments": ""})
            known = calls[-1:]
        arguments = function.get("arguments") or ""
        known[0]["id"] = known[0]["id"] or str(identity)
        known[0]["name"] = known[0]["name"] or str(function.get("name") or "")
        known[0]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return whole(content)
    return whole("".join(str(part["text"]) for part in content if part.get("type") == "text"))
