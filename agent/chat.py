"""Chat messages in all the forms that clients send: their text and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, convert_to_messages

from lensgraph.agent.errors import BadInput


def as_messages(given: Any) -> list[AnyMessage]:
    """Messages in every form that LangGraph takes: one or many, as objects, dictionaries, pairs or text."""
    if given is None:
        return []
    return list(cast("list[AnyMessage]", convert_to_messages(given if isinstance(given, list) else [given])))


def last_human(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    """The latest message of a person."""
    return next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)


def text_of(message: AnyMessage) -> str:
    """All text of a message, its blocks on lines of their own."""
    if isinstance(message.content, str):
        return message.content
    parts = (block if isinstance(block, str) else block.get("text", "") for block in message.content)
    return "\n".join(part for part in parts if part)


def pictures_of(message: BaseMessage) -> list[Any]:
    """Image sources in a message: standard blocks, and the older and OpenAI forms that clients send."""
    if isinstance(message.content, str):
        return []
    return [source for block in message.content if isinstance(block, dict) and (source := source_of(block)) is not None]


def source_of(block: dict[str, Any]) -> Any:
    """The picture of a block, as the image store takes it; None: the block is no picture.

    Raises:
        BadInput: an image block without a picture.
    """
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
