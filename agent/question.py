"""Reading a question: from chat messages or from `question` and `images`, into text and stored pictures.

Invariants: after `deposit`, which runs before a graph and its first checkpoint, the chat and the state hold picture ids
only; `take` reads them, in the first node. Bad input is a `BadInput`, one line that names the value and the fix; nothing has
run by then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.types import Command
from pydantic import BaseModel

from lensgraph.agent.chat import (
    Block,
    as_messages,
    blocks_of,
    hidden_data,
    last_human,
    latest_pictures,
    pictures_of,
    source_of,
    storable,
    text_of,
    unreadable,
    with_blocks,
)
from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.dialects.base import image_block
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore, Picture
from lensgraph.agent.input_keys import check_keys
from lensgraph.agent.state import AgentState
from lensgraph.tools import guard
from lensgraph.tools.guard import Refused
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.surrogates import whole

UNREADABLE = "(a picture that could not be read)"
"""Stands in the chat for an earlier picture that the guard refused."""


class AskedQuestion:
    """A question with its stored pictures, and the chat message that holds both."""

    def __init__(self, text: str, pictures: list[Picture], message: HumanMessage, asked: AnyMessage | None) -> None:
        self.text, self.pictures, self.message, self.asked = text, pictures, message, asked


async def take(state: AgentState, store: ImageStore, limits: LimitsConfig) -> AskedQuestion:
    """The question that this run is about, with its pictures: its own and those behind it in the chat, such as a tool's; else
    those of the latest earlier message that has some, whoever wrote it; else those of the thread."""
    question = await _read(state, store, limits)
    messages = state.get("messages") or []
    position = next((n for n, message in enumerate(messages) if message is question.asked), len(messages))
    behind = messages[position + 1 :]
    sources = [source for message in behind for source in pictures_of(message)]
    if not question.pictures and not sources:
        sources = latest_pictures(messages)
    check_number(len(question.pictures) + len(sources), limits)
    question.pictures += [await _stored(source, store) for source in sources]
    question.pictures = question.pictures or list(state.get("pictures") or [])
    return question


async def deposit(given: Any, store: ImageStore, limits: LimitsConfig, *, embedded: bool = False) -> Any:
    """The input of a run with every picture in the store and its id in the input: what may be kept in a checkpoint.

    A question with `images` becomes a chat message, because LangGraph keeps messages when a run is cut off. Anything else
    (a resume, an empty input) is returned as it is. `embedded`: the input is the state of a graph around this one.

    Raises:
        BadInput: an unknown key, or a question or a picture that cannot be used.
    """
    if isinstance(given, dict):
        check_keys(given, embedded=embedded)
    fields = given if isinstance(given, dict) else _fields(given)
    if fields is None:
        if given is None or embedded or isinstance(given, Command):
            return given
        raise BadInput(f"The input is a {type(given).__name__}; give `question` and `images`, or `messages`.")
    messages = as_messages(fields.get("messages"))
    asked = last_human(messages) if fields.get("question") is None else None
    if fields.get("question") is None and asked is None:
        if messages:  # `take` knows the thread and says what is missing
            fields = {**fields, "messages": [storable(await _without_bytes(message, store)) for message in messages]}
        sources = _listed(fields.get("images"))  # the thread may hold their question
        check_number(len(sources), limits)
        brought = [image_block((await _stored(source, store))["id"]) for source in sources]
        return {**fields, "images": brought} if brought else fields
    question = await _read(cast("AgentState", {**fields, "messages": messages}), store, limits)
    kept = [question.message if m is asked else storable(await _without_bytes(m, store)) for m in messages]
    if not question.pictures:
        await _check_earlier(messages, kept, store)
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
    """Another message of the chat with ids in place of the pictures that it carries in itself."""
    if isinstance(message.content, str):
        return message
    stored: dict[int, Block] = {}
    for block in blocks_of(message):
        try:
            source = source_of(block)
            if isinstance(source, str) and not guard.is_inline(source):
                continue  # an address is fetched only if the question turns out to be about it
            if source is not None:
                stored[id(block)] = image_block((await store.take(source))["id"])
        except (BadInput, Refused, ToolFailure):
            stored[id(block)] = {"type": "text", "text": UNREADABLE}  # the question may be about another picture
    content = with_blocks(message.content, lambda block: stored.get(id(block), block))
    return message.model_copy(update={"content": content}) if stored else message


async def _read(state: AgentState, store: ImageStore, limits: LimitsConfig) -> AskedQuestion:
    """The question with the pictures that it brings itself."""
    text, sources = state.get("question"), _listed(state.get("images"))
    messages = state.get("messages") or []
    asked: AnyMessage | None = None
    if text is None:
        asked = last_human(messages)
        if asked is None:
            raise BadInput("No question: give `messages` with a human message, or `question` and `images`.")
        text = text_of(asked)
        sources = [*_pictures(asked), *sources]
    if not isinstance(text, str):
        raise BadInput(f"The question is a {type(text).__name__}; give a text.")
    text = hidden_data(whole(text.strip()))
    if not text:
        raise BadInput("The question is empty; ask something about the picture.")
    if len(text) > limits.question_chars:
        raise BadInput(
            f"The question has {len(text):,} characters, the limit is {limits.question_chars:,} "
            "(limits.question_chars); shorten it."
        )
    check_number(len(sources), limits)
    brought = [await _stored(source, store) for source in sources]
    content: list[dict[str, Any] | str] = [
        *(image_block(p["id"]) for p in brought),
        {"type": "text", "text": text},
    ]
    message = HumanMessage(content=content, id=asked.id if asked is not None else None)
    return AskedQuestion(text, brought, message, asked)


async def _stored(source: Any, store: ImageStore) -> Picture:
    try:
        return await store.take(source)
    except (Refused, ToolFailure) as error:
        raise BadInput(str(error)) from error


def _pictures(asked: AnyMessage) -> list[Any]:
    """The pictures of the message that asks.

    Raises:
        BadInput: it holds media that cannot be read.
    """
    for block in blocks_of(asked):
        if kind := unreadable(block):
            raise BadInput(f"The question holds a block of type {kind}, which is not read; give text and pictures.")
    return pictures_of(asked)


async def _check_earlier(messages: list[AnyMessage], kept: list[AnyMessage], store: ImageStore) -> None:
    """Refuse a question that brings no picture where none of the chat's latest pictures could be read.

    Raises:
        BadInput: it names the first of them.
    """
    for before, after in zip(reversed(messages), reversed(kept), strict=True):
        if pictures_of(after):
            return
        for source in pictures_of(before):
            await _stored(source, store)


def _listed(images: Any) -> list[Any]:
    """The pictures of `images`: several, or a lone one in any form; a content block stands for its picture.

    Raises:
        BadInput: a block that holds no picture.
    """
    if images is None:
        return []
    found = list(images) if isinstance(images, list | tuple | set | frozenset | Iterator) else [images]
    return [_picture_of(one) if isinstance(one, Mapping) else one for one in found]


def _picture_of(block: Mapping[str, Any]) -> Any:
    source = source_of(block)
    if source is None:
        raise BadInput(
            f"`images` holds an object that is no image block: its keys are {', '.join(map(str, block))[:80]}."
        )
    return source


def check_number(pictures: int, limits: LimitsConfig) -> None:
    """Hold the number of a question's pictures against the limit.

    Raises:
        BadInput: there are too many.
    """
    if pictures > limits.pictures:
        raise BadInput(
            f"{pictures} pictures in one question, the limit is {limits.pictures} (limits.pictures); send fewer."
        )
