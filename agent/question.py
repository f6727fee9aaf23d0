"""Reading a question: from chat messages or from `question` and `images`, into text and stored pictures.

Invariants: after `deposit`, which runs before a graph and its first checkpoint, the chat and the state hold picture ids
only; `take` reads them, in the first node. Bad input is a `BadInput`, one line that names the value and the fix; nothing has
run by then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, convert_to_messages
from langgraph.types import Command
from pydantic import BaseModel

from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.dialects.base import image_block
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import ImageStore, Picture
from lensgraph.agent.state import AgentState
from lensgraph.tools.guard import Refused
from lensgraph.tools.results import ToolFailure

UNREADABLE = "(a picture that could not be read)"
"""Stands in the chat for an earlier picture that the guard refused."""


class BadInput(UserError):
    """The question or a picture cannot be used."""


class Question:
    """A question with its stored pictures, and the chat message that holds both."""

    def __init__(self, text: str, pictures: list[Picture], message: HumanMessage) -> None:
        self.text, self.pictures, self.message = text, pictures, message


async def take(state: AgentState, store: ImageStore, limits: LimitsConfig) -> Question:
    """The question that this run is about. A follow-up without a picture keeps the pictures of the thread."""
    question = await _read(state, store, limits)
    question.pictures = (
        question.pictures or list(state.get("pictures") or []) or await _earlier(state.get("messages") or [], store)
    )
    return question


async def deposit(given: Any, store: ImageStore, limits: LimitsConfig) -> Any:
    """The input of a run with every picture in the store and its id in the input: what may be kept in a checkpoint.

    A question with `images` becomes a chat message, because LangGraph keeps messages when a run is cut off. Anything else
    (a resume, an empty input) is returned as it is.
    """
    fields = given if isinstance(given, dict) else _fields(given)
    if fields is None:
        return given
    messages = _as_messages(fields.get("messages"))
    asked = _last_human(messages) if fields.get("question") is None else None
    if fields.get("question") is None and asked is None:
        return fields  # `take` knows the thread and says what is missing
    question = await _read(cast("AgentState", {**fields, "messages": messages}), store, limits)
    kept = [question.message if m is asked else await _without_bytes(m, store) for m in messages]
    rest = {key: value for key, value in fields.items() if key not in ("question", "images")}
    return {**rest, "messages": kept if asked is not None else [*kept, question.message]}


def _fields(given: Any) -> dict[str, Any] | None:
    """A parent graph may keep its state in a model or a dataclass."""
    if not isinstance(given, BaseModel) and not dataclasses.is_dataclass(given):
        return None
    if isinstance(given, Command):
        return None
    return {name: getattr(given, name) for name in ("messages", "question", "images") if hasattr(given, name)}


def _as_messages(given: Any) -> list[AnyMessage]:
    """Messages in every form that LangGraph takes: one or many, as objects, dictionaries, pairs or text."""
    if given is None:
        return []
    return list(cast("list[AnyMessage]", convert_to_messages(given if isinstance(given, list) else [given])))


async def _without_bytes(message: AnyMessage, store: ImageStore) -> AnyMessage:
    """An earlier message of the chat with ids in place of the pictures that it carries in itself."""
    if isinstance(message.content, str) or not pictures_of(message):
        return message
    content: list[str | dict[str, Any]] = []
    for block in message.content:
        source = _source(block) if isinstance(block, dict) else None
        if isinstance(source, bytes) or (isinstance(source, str) and source.startswith("data:")):
            try:
                block = image_block((await store.take(source))["id"])
            except (Refused, ToolFailure):
                block = {"type": "text", "text": UNREADABLE}  # it is not what is asked about: the question goes on
        content.append(block)
    return message.model_copy(update={"content": content})


async def _read(state: AgentState, store: ImageStore, limits: LimitsConfig) -> Question:
    """The question with the pictures that it brings itself."""
    text, sources = state.get("question"), list(state.get("images") or [])
    messages = state.get("messages") or []
    asked: AnyMessage | None = None
    if text is None:
        asked = _last_human(messages)
        if asked is None:
            raise BadInput("No question: give `messages` with a human message, or `question` and `images`.")
        text = _text_of(asked)
        sources = [*pictures_of(asked), *sources]
    if not isinstance(text, str):
        raise BadInput(f"The question is a {type(text).__name__}; give a text.")
    text = text.strip()
    if not text:
        raise BadInput("The question is empty; ask something about the picture.")
    if len(text) > limits.question_chars:
        raise BadInput(
            f"The question has {len(text):,} characters, the limit is {limits.question_chars:,} "
            "(limits.question_chars); shorten it."
        )
    if len(sources) > limits.pictures:
        raise BadInput(
            f"{len(sources)} pictures in one question, the limit is {limits.pictures} (limits.pictures); send fewer."
        )
    brought = [await _stored(source, store) for source in sources]
    content: list[dict[str, Any] | str] = [
        *(image_block(p["id"]) for p in brought),
        {"type": "text", "text": text},
    ]
    message = HumanMessage(content=content, id=asked.id if asked is not None else None)
    return Question(text, brought, message)


async def _stored(source: Any, store: ImageStore) -> Picture:
    try:
        return await store.take(source)
    except (Refused, ToolFailure) as error:
        raise BadInput(str(error)) from error


async def _earlier(messages: Sequence[AnyMessage], store: ImageStore) -> list[Picture]:
    """Pictures of the latest earlier message that has some: a client may send the whole chat each time."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage) and (sources := pictures_of(message)):
            return [await _stored(source, store) for source in sources]
    return []


def _last_human(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    return next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)


def _text_of(message: AnyMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = (block if isinstance(block, str) else block.get("text", "") for block in message.content)
    return "\n".join(part for part in parts if part)


def pictures_of(message: BaseMessage) -> list[Any]:
    """Image sources in a message: standard blocks, and the older and OpenAI forms that clients send."""
    if isinstance(message.content, str):
        return []
    return [source for block in message.content if isinstance(block, dict) and (source := _source(block)) is not None]


def _source(block: dict[str, Any]) -> Any:
    kind = block.get("type")
    if kind == "image_url":
        address = block.get("image_url")
        return address.get("url") if isinstance(address, dict) else address
    if kind != "image":
        return None
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if data is not None:
        if isinstance(data, bytes):
            return data
        return f"data:{block.get('mime_type') or 'image/png'};base64,{data}"
    address = block.get("url") or block.get("id") or block.get("file_id")
    if address is None:
        raise BadInput("An image block holds no picture: give `base64` with `mime_type`, or `url`.")
    return address
