"""Reading a question: from chat messages or from `question` and `images`, into text and stored pictures.

Invariants: after `deposit`, which runs before a graph and its first checkpoint, the chat and the state hold picture ids
only; `take` reads them, in the first node. Bad input is a `BadInput`, one line that names the value and the fix; nothing has
run by then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.types import Command
from pydantic import BaseModel

from lensgraph.agent.chat import as_messages, last_human, pictures_of, source_of, text_of
from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.dialects.base import image_block
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore, Picture
from lensgraph.agent.state import AgentState
from lensgraph.tools import guard
from lensgraph.tools.guard import Refused
from lensgraph.tools.results import ToolFailure

UNREADABLE = "(a picture that could not be read)"
"""Stands in the chat for an earlier picture that the guard refused."""


class AskedQuestion:
    """A question with its stored pictures, and the chat message that holds both."""

    def __init__(self, text: str, pictures: list[Picture], message: HumanMessage) -> None:
        self.text, self.pictures, self.message = text, pictures, message


async def take(state: AgentState, store: ImageStore, limits: LimitsConfig) -> AskedQuestion:
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
    messages = as_messages(fields.get("messages"))
    asked = last_human(messages) if fields.get("question") is None else None
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


async def _without_bytes(message: AnyMessage, store: ImageStore) -> AnyMessage:
    """An earlier message of the chat with ids in place of the pictures that it carries in itself."""
    if isinstance(message.content, str) or not pictures_of(message):
        return message
    content: list[str | dict[str, Any]] = []
    for block in message.content:
        source = source_of(block) if isinstance(block, dict) else None
        if isinstance(source, bytes) or (isinstance(source, str) and guard.is_inline(source)):
            try:
                block = image_block((await store.take(source))["id"])
            except (Refused, ToolFailure):
                block = {"type": "text", "text": UNREADABLE}  # it is not what is asked about: the question goes on
        content.append(block)
    return message.model_copy(update={"content": content})


async def _read(state: AgentState, store: ImageStore, limits: LimitsConfig) -> AskedQuestion:
    """The question with the pictures that it brings itself."""
    text, sources = state.get("question"), list(state.get("images") or [])
    messages = state.get("messages") or []
    asked: AnyMessage | None = None
    if text is None:
        asked = last_human(messages)
        if asked is None:
            raise BadInput("No question: give `messages` with a human message, or `question` and `images`.")
        text = text_of(asked)
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
    return AskedQuestion(text, brought, message)


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
