"""Fill the pictures of a dialogue in, right before the policy is called.

Invariant: only the copy that the policy is given holds bytes; the dialogue in the state keeps ids.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore


async def materialise(
    dialogue: list[AnyMessage], store: ImageStore, dialect: Dialect, view_pixels: int, *, as_urls: bool = False
) -> list[AnyMessage]:
    """A copy of the dialogue that holds the bytes of its pictures, each in the size that the dialect shows.

    `as_urls` writes `image_url` blocks with data URIs. LangChain would otherwise convert every standard block to that
    form at every call, for tracers that may not be there.
    """
    shown = {(b["id"], dialect.view(b, view_pixels)) for m in dialogue for b in image_blocks(m)}
    missing = [(identity, view) for identity, view in shown if store.cached_block(identity, *view) is None]
    if missing:
        await asyncio.to_thread(lambda: [store.block(identity, *view) for identity, view in missing])
    return [_with_bytes(message, store, dialect, view_pixels, as_urls=as_urls) for message in dialogue]


def image_blocks(message: AnyMessage) -> list[dict[str, Any]]:
    """The image blocks of a user message; a policy's message has none."""
    if not isinstance(message, HumanMessage) or isinstance(message.content, str):
        return []
    return [block for block in message.content if isinstance(block, dict) and block.get("type") == "image"]


def _with_bytes(
    message: AnyMessage, store: ImageStore, dialect: Dialect, view_pixels: int, *, as_urls: bool
) -> AnyMessage:
    if not image_blocks(message):
        return message

    def filled(block: dict[str, Any]) -> dict[str, Any]:
        held = store.block(block["id"], *dialect.view(block, view_pixels))
        if as_urls:
            url = f"data:{held['mime_type']};base64,{held['base64']}"
            held = {"type": "image_url", "image_url": {"url": url}}
        return {**block, **held}  # other keys of the block stay, such as the mark of a thumbnail

    content = [
        filled(block) if isinstance(block, dict) and block.get("type") == "image" else block
        for block in message.content
    ]
    return message.model_copy(update={"content": content})
