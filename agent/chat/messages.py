"""Chat messages in all the forms that clients send: their text and their pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, convert_to_messages
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from lensgraph.agent.chat.picture_blocks import source_of
from lensgraph.agent.errors import BadInput
from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.redact import HIDDEN, without_data
from lensgraph.tools.safety.surrogates import whole

ATTACHED = ("images", "experimental_attachments")
"""Keys of a message that hold its pictures beside the content: Ollama's, and those of the AI SDK's chat hook."""
RESULTS = (("", "content"), ("toolResult", "content"), ("output", "value"))
"""Keys under which a block for a tool result holds content: Anthropic's, Bedrock's, the AI SDK's."""
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, NotImplementedError)
"""Raised by LangChain for what is no message: it has no error of its own for it."""
DEPTH = 4
"""Levels of content within content that are read; clients write two."""
MAY_HOLD_DATA = ("content", "additional_kwargs", "response_metadata", "tool_calls", "invalid_tool_calls", "artifact")
"""Fields of messages in which clients and tools put pictures."""
_PERHAPS_DATA = re.compile(r"(base64,)[\w+/=-]+(?:\r?\n[\w+/=-]{30,})*|(?:[\w+/=-]{70,}\r?\n)+[\w+/=-]*|[\w+/=-]{200,}")
"""A data URI, or base64 perhaps: in lines as mail writes it, or a run that is too long for an id."""
Block = dict[str, Any]
_SERIALIZER = JsonPlusSerializer()
"""Writes values as LangGraph's checkpointers do."""


def as_messages(given: Any) -> list[AnyMessage]:
    """Messages in every form that LangGraph takes: one or many, as objects, dictionaries, pairs or text.

    Raises:
        BadInput: one that is no message.
    """
    if given is None:
        return []
    try:
        found = convert_to_messages(given if isinstance(given, list) else [given])
    except UNREADABLE as error:
        raise BadInput(
            f"`messages` holds what is no chat message ({one_line(error, 160, first=True)}); give `role` and `content`."
        ) from error
    return [_with_attached(message) for message in cast("list[AnyMessage]", found)]


def storable(message: AnyMessage) -> AnyMessage:
    """The message as a checkpoint can hold it: without the bytes of pictures that nothing reads (in a tool's artifact, the
    arguments of a call, a text), and with U+FFFD for half characters.

    Raises:
        BadInput: it holds what cannot be stored, such as a number of more than 64 bits or lists within lists without end.
    """
    message = _without_data(message)
    if _unstorable(message) is None:
        return message
    message = _mended(message)
    if (wrong := _unstorable(message)) is None:
        return message
    raise BadInput(f"`messages` holds what no thread can keep ({wrong}); send text and pictures.")


def _without_data(message: AnyMessage) -> AnyMessage:
    held = {name: getattr(message, name, None) for name in MAY_HOLD_DATA}
    swept = {name: _swept(value) for name, value in held.items() if value}
    changed = {name: value for name, value in swept.items() if value is not held[name]}
    return message.model_copy(update=changed) if changed else message


def _swept(value: Any, depth: int = 20) -> Any:
    """The value with data of pictures hidden; the same object if it holds none, or lies deeper than anybody writes."""
    if isinstance(value, bytes | bytearray):
        return HIDDEN
    if isinstance(value, str):
        return hidden_data(value)
    if not isinstance(value, dict | list | tuple) or not depth:
        return value
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    new = [(key, _swept(held, depth - 1)) for key, held in items]
    if all(one[1] is other[1] for one, other in zip(new, items, strict=True)):
        return value
    return dict(new) if isinstance(value, dict) else [held for _, held in new]


def hidden_data(text: str) -> str:
    """The text without data URIs and long runs of base64; ids and addresses stay. The same object if it holds none."""
    if text.startswith(("http://", "https://")):
        return text

    def hide(run: re.Match[str]) -> str:
        whole_run = "".join(run[0].split())  # one line of a picture may look like a word
        return f"{run[1] or ''}{HIDDEN}" if run[1] or without_data(whole_run) != whole_run else run[0]

    swept = _PERHAPS_DATA.sub(hide, text)
    return text if swept == text else swept


def _unstorable(message: AnyMessage) -> str | None:
    try:
        _SERIALIZER.dumps_typed(message)
    except Exception as error:  # whatever is wrong with a foreign value
        return one_line(error, 120, first=True)
    return None


def _mended(message: AnyMessage) -> AnyMessage:
    try:
        return message.model_validate(_whole(message.model_dump()))
    except UNREADABLE:
        return message


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {_whole(key): _whole(held) for key, held in value.items()}
    return [_whole(held) for held in value] if isinstance(value, list) else value


def _with_attached(message: AnyMessage) -> AnyMessage:
    """The message with the pictures that it holds beside its content as blocks of the content."""
    held = {key: message.additional_kwargs[key] for key in ATTACHED if message.additional_kwargs.get(key)}
    if not held:
        return message
    attached = [one for value in held.values() for one in (value if isinstance(value, list) else [value])]
    blocks = [{"type": "file", **one} if isinstance(one, dict) and "type" not in one else one for one in attached]
    content = [message.content] if isinstance(message.content, str) else message.content
    rest = {key: value for key, value in message.additional_kwargs.items() if key not in held}
    pictures = [one if isinstance(one, dict) else {"type": "image", "image": one} for one in blocks]
    return message.model_copy(update={"content": [*content, *pictures], "additional_kwargs": rest})


def last_human(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    """The latest message of a person."""
    return next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)


def text_of(message: AnyMessage) -> str:
    """All text of a message, its blocks on lines of their own.

    Raises:
        BadInput: a block whose text is none.
    """
    if isinstance(message.content, str):
        return message.content
    parts = [block if isinstance(block, str) else block.get("text", "") for block in message.content]
    for part in parts:
        if part is not None and not isinstance(part, str):
            raise BadInput(f"A message holds a text that is a {type(part).__name__}; give it as a string.")
    return "\n".join(part for part in parts if part)


def with_blocks(content: Sequence[Any], change: Callable[[Block], Block], depth: int = DEPTH) -> list[Any]:
    """A copy of a message's content in which `change` has replaced each block, those within tool results included.

    Raises:
        BadInput: results within results, deeper than any client writes them.
    """
    if not depth:
        raise BadInput("A message holds tool results within tool results; send their content.")
    return [_changed(block, change, depth) if isinstance(block, dict) else block for block in content]


def _changed(block: Block, change: Callable[[Block], Block], depth: int) -> Block:
    for outer, key in RESULTS:
        holder = block.get(outer) if outer else block
        if isinstance(holder, dict) and isinstance(holder.get(key), list):
            inside = {**holder, key: with_blocks(holder[key], change, depth - 1)}
            return {**block, outer: inside} if outer else inside
    return change(block)


def blocks_of(message: BaseMessage) -> list[Block]:
    """The blocks of a message, those within tool results included."""
    found: list[Block] = []
    if not isinstance(message.content, str):
        with_blocks(message.content, lambda block: found.append(block) or block)  # type: ignore[func-returns-value]
    return found


def pictures_of(message: BaseMessage) -> list[Any]:
    """Sources of the pictures in a message, as the image store takes them.

    Raises:
        BadInput: an image block that cannot be read.
    """
    return [source for block in blocks_of(message) if (source := source_of(block)) is not None]


def latest_pictures(messages: Sequence[BaseMessage]) -> list[Any]:
    """The pictures of the latest message that has any, whoever wrote it: a person, a tool, a model or the system."""
    return next((pictures for message in reversed(messages) if (pictures := pictures_of(message))), [])
