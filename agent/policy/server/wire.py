"""Chat completions on the wire: what the servers take, what they answer, and how each says that something is wrong.

Checked against: vLLM (`entrypoints/openai/chat_completion/protocol.py`, `engine/protocol.py`), SGLang
(`srt/entrypoints/openai/protocol.py`, `managers/tokenizer_manager.py`), llama.cpp (`tools/server/README.md`) and the
server of transformers (`cli/serving/chat_completion.py`). Invariant: nothing here talks to anyone; whatever a server sent is
either read into plain values or becomes a `PolicyError`, which does not hold the `key` that the caller names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata

from lensgraph.agent.policy.errors import PolicyError
from lensgraph.tools import retry
from lensgraph.tools.safety.redact import blot
from lensgraph.tools.safety.surrogates import whole

ROLES = {"human": "user", "ai": "assistant", "system": "system"}
LEFT_OUT = "(picture left out)"
"""What stands in a request where a thumbnail did not fit any more."""

Server = Literal["vllm", "sglang", "llama_cpp", "other"]
OWNERS: dict[str, Server] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp"}
"""`owned_by` in a server's list of models -> what the server is."""
KEEPS_STOP: dict[Server, dict[str, Any]] = {
    "vllm": {"include_stop_str_in_output": True},
    "sglang": {"no_stop_trim": True},
    # llama.cpp always trims; the server of transformers never does and refuses fields that it does not know.
}
"""The field that makes a server keep the text at which it stopped."""
SAYS_TOKENS: dict[Server, dict[str, Any]] = {
    "vllm": {"return_token_ids": True, "logprobs": True},
    "llama_cpp": {"logprobs": True},  # its log-probabilities name the id of each token
}
"""The fields that make a server tell the ids that it sampled, with their log-probabilities."""

_TOO_LONG = re.compile(
    r"maximum context length"  # vLLM, OpenAI, SGLang (prompt and completion together)
    r"|model's context length"  # SGLang (the prompt alone), later vLLM
    r"|maximum model length|too long to fit into the model"  # vLLM, when pictures make the prompt too long; older vLLM
    r"|available context size|exceed_context_size_error"  # llama.cpp
    r"|context_length_exceeded"  # OpenAI
    r"|At most \d+ image",  # vLLM, --limit-mm-per-prompt
    re.IGNORECASE,
)
_CLOSING = re.compile(r"</([A-Za-z_][\w-]*)>")


class Passing(PolicyError):
    """What may go well a moment later: no answer in time, one that broke off, or one that is no chat completion."""


class DoesNotFit(PolicyError):
    """The server says that the request is longer than its context, or holds more pictures than it takes."""


@dataclass
class Turn:
    """One turn as a server wrote it, or the pieces of it that have come so far."""

    text: str = ""
    """What was said."""
    thought: str = ""
    """What a server's reasoning parser took out of it."""
    finish: str | None = None
    """`stop`, `length`, or whatever the server calls it. None: the turn has not ended."""
    matched: str | None = None
    """The stop string at which it ended, if the server says so."""
    ids: list[int] = field(default_factory=list)
    """Sampled token ids, as far as the server tells them."""
    logprobs: list[float] = field(default_factory=list)
    """Their log-probabilities."""
    usage: UsageMetadata | None = None
    """Tokens read and written. None: the server does not count."""

    @property
    def tokens(self) -> dict[str, Any]:
        """Ids and log-probabilities for a message's metadata; empty unless there is one of each for every token."""
        if self.ids and len(self.ids) == len(self.logprobs):
            return {"token_ids": self.ids, "logprobs": self.logprobs}
        return {}


def as_openai(message: BaseMessage) -> dict[str, Any]:
    """A LangChain message as a chat-completions message; pictures as data URIs."""
    role = ROLES.get(message.type)
    if role is None:
        raise ValueError(f"a policy takes human, ai and system messages, not {message.type!r}")
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    if role != "user":  # not every server takes parts from anyone else
        return {"role": role, "content": str(message.text)}
    return {"role": role, "content": [_part(block) for block in message.content]}


def _part(block: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind == "image" and "base64" in block:
        uri = f"data:{block.get('mime_type') or 'image/png'};base64,{block['base64']}"
        return {"type": "image_url", "image_url": {"url": uri}}
    if kind == "image_url":
        given = block.get("image_url")
        uri = str(given.get("url", "") if isinstance(given, dict) else given)
        if uri.startswith("data:"):
            return {"type": "image_url", "image_url": {"url": uri}}
    if kind in ("image", "image_url"):
        # An address would be fetched by the server, past the guard of this package.
        raise ValueError(f"a picture goes to the policy as bytes; this block holds {sorted(block)} and no base64 data")
    if kind != "text":
        raise ValueError(f"content block of type {kind!r}; the policy takes 'text' and 'image'")
    return {"type": "text", "text": block["text"]}


def oldest_thumbnail(messages: Sequence[BaseMessage]) -> tuple[int, int] | None:
    """Where the oldest thumbnail of a search result stands: message and block. None: there is none left."""
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for place, block in enumerate(message.content):
            if isinstance(block, dict) and block.get("thumbnail"):
                return number, place
    return None


def without_block(messages: Sequence[BaseMessage], where: tuple[int, int]) -> list[BaseMessage]:
    """The messages with one picture replaced by words; the messages given stay as they are."""
    number, place = where
    content = list(messages[number].content)
    content[place] = {"type": "text", "text": LEFT_OUT}
    return [*messages[:number], messages[number].model_copy(update={"content": content}), *messages[number + 1 :]]


def read_answer(body: bytes, where: str, key: str = "") -> Turn:
    """A whole answer.

    Raises:
        DoesNotFit: it says with status 200, as some proxies and older llama.cpp do, that the request is too long.
        PolicyError: it is no chat completion.
    """
    turn = Turn()
    answer = _parsed(body, where, key)
    if isinstance(answer, dict) and "error" in answer and _TOO_LONG.search(json.dumps(answer)):
        raise DoesNotFit(f"{where}: {server_message(body, key)}")
    if not isinstance(answer, dict) or not answer.get("choices"):
        shown = first_line(body.decode("utf-8", "replace"), key)
        raise Passing(f"{where}: the answer is no chat completion ({shown})")
    _add(turn, answer, "message", where, key)
    return turn


def read_piece(turn: Turn, data: bytes, where: str, key: str = "") -> str:
    """Add one event of a stream to the turn; the text that it brought.

    Raises:
        DoesNotFit: the stream begins with the news that the request is too long.
        PolicyError: the event is an error, or no piece of a chat completion.
    """
    event = _parsed(data, where, key)
    if not isinstance(event, dict) or "error" in event or event.get("object") == "error":
        if not turn.text and _TOO_LONG.search(data.decode("utf-8", "replace")):
            raise DoesNotFit(f"{where}: {server_message(data, key)}")
        raise Passing(f"{where}: the stream broke off: {server_message(data, key)}")
    before = len(turn.text)
    _add(turn, event, "delta", where, key)
    return turn.text[before:]


def _parsed(body: bytes, where: str, key: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        shown = first_line(body.decode("utf-8", "replace"), key)
        raise Passing(f"{where}: the answer is no chat completion ({shown})") from error


def _add(turn: Turn, answer: dict[str, Any], part: str, where: str, key: str) -> None:
    try:
        for choice in answer.get("choices", [])[:1]:  # the last event of a stream has none, only the usage
            said = choice.get(part) or {}
            turn.text += _text(said.get("content"))
            # vLLM renamed the field of its reasoning parsers; a thought is not part of the turn, so it is kept beside it.
            turn.thought += _text(said.get("reasoning") or said.get("reasoning_content"))
            turn.finish = choice.get("finish_reason") or turn.finish
            # vLLM's and SGLang's names; a number is the id of a token, such as the end of a turn
            matched = choice.get("stop_reason", choice.get("matched_stop"))
            turn.matched = matched if isinstance(matched, str) else turn.matched
            counted = (choice.get("logprobs") or {}).get("content") or []
            turn.logprobs += [float(token["logprob"]) for token in counted]
            ids = choice.get("token_ids") or [token["id"] for token in counted if "id" in token]
            turn.ids += [int(token) for token in ids]
        usage = answer.get("usage")
        if usage:
            read, wrote = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            turn.usage = UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)
    except (AttributeError, KeyError, TypeError, ValueError):
        shown = first_line(json.dumps(answer), key)
        # Not `from error`: it may quote what the server wrote.
        raise Passing(f"{where}: the answer is no chat completion ({shown})") from None


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return whole(content)
    return whole("".join(str(part["text"]) for part in content if part.get("type") == "text"))


def are_tags(stops: Sequence[str]) -> bool:
    """Whether all of these are closing tags, which belong to the turn that they end."""
    return bool(stops) and all(_CLOSING.fullmatch(stop) for stop in stops)


def missing_stop(turn: Turn, stops: Sequence[str]) -> str:
    """The closing tag at which a server stopped and that it cut off; empty if nothing is missing.

    A server that does not say what stopped it is taken to have stopped at the tag that was opened last and not closed."""
    if turn.finish != "stop":
        return ""
    if turn.matched in stops:
        tag = str(turn.matched)
        return tag if _CLOSING.fullmatch(tag) and not turn.text.rstrip().endswith(tag) else ""
    opened: dict[int, str] = {}
    for stop in stops:
        name = _CLOSING.fullmatch(stop)
        place = turn.text.rfind(f"<{name[1]}>") if name else -1
        if place >= 0 and stop not in turn.text[place:]:
            opened[place] = stop
    return opened[max(opened)] if opened else ""


def does_not_fit(status: int, body: bytes) -> bool:
    """Whether a refusal says that the request is too long. Older llama.cpp says so with status 500."""
    return status in (400, 413, 422, 500) and bool(_TOO_LONG.search(body.decode("utf-8", "replace")))


def is_loading(status: int, body: bytes) -> bool:
    """Whether a server says that its model is not there yet, as llama.cpp does: 503 and `Loading model`."""
    return status == 503 and b"loading" in body.lower()


def server_message(body: bytes, key: str = "") -> str:
    """What a server says is wrong, in one line: OpenAI's and vLLM's `error.message`, SGLang's and older vLLM's flat
    `message`, the `detail` of FastAPI (transformers), or plain words. Some repeat the `key`, which is left out."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        return first_line(text, key)
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found
    return first_line(found if isinstance(found, str) else json.dumps(found), key)


def served(body: bytes) -> tuple[Server, list[str]]:
    """What a server is, and the names of the models that it serves, from its list of models."""
    try:
        cards = json.loads(body)["data"]
        names = [str(card["id"]) for card in cards]
        owners = {str(card.get("owned_by")) for card in cards}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "other", []
    return next((OWNERS[owner] for owner in owners if owner in OWNERS), "other"), names


def event_data(line: bytes) -> bytes | None:
    """The data of a line of a server-sent event stream. None: the line holds none (a comment, a blank line, the end).

    Older llama.cpp tells an error in a field of its own, `error: {...}`, which becomes the data `{"error": {...}}`."""
    if line.startswith(b"error:"):
        return b'{"error": ' + line[6:].strip() + b"}"
    if not line.startswith(b"data:"):
        return None
    data = line[5:].strip()
    return None if data in (b"", b"[DONE]") else data


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a busy server asks for, as a number or as a date. None: it names none."""
    return retry.retry_after(headers.get("retry-after"))


def first_line(text: str, key: str = "") -> str:
    """The beginning of a text on one line, without the key."""
    return " ".join(blot(text, key).split())[:200]
