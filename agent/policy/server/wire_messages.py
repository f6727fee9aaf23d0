"""LangChain messages as chat-completions messages. Pictures travel as data URIs, never as addresses."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage

ROLES = {"human": "user", "ai": "assistant", "system": "system"}
"""Type of a LangChain message -> its role on the wire."""


def as_openai(message: BaseMessage) -> dict[str, Any]:
    """One message for the request.

    Raises:
        ValueError: a message of another type, a picture without bytes, or a block that is neither text nor picture.
    """
    role = ROLES.get(message.type)
    if role is None:
        raise ValueError(f"a policy takes human, ai and system messages, not {message.type!r}")
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    if role != "user":  # not every server takes a list of parts from another role
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
        # The server would fetch an address past the guard of this package.
        raise ValueError(f"a picture goes to the policy as bytes; this block holds {sorted(block)} and no base64 data")
    if kind != "text":
        raise ValueError(f"content block of type {kind!r}; the policy takes 'text' and 'image'")
    return {"type": "text", "text": block["text"]}
