"""The pictures of a dialogue as others see them, by their ids, and as the policy sees them, with their bytes.

Invariant: only the copy that goes into the model holds bytes; the dialogue in the state and what is told to callbacks and
tracers hold ids and facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from langchain_core.messages import BaseMessage, HumanMessage

from lensgraph.agent.images import ImageStore, Picture, View, facts

Block = dict[str, Any]
Sizes = Callable[[Block], View]
"""The size in which the policy is shown the picture of a block."""
TOLD = "picture"
"""Type of a block that callbacks are told. LangChain looks every `image` block over for tracers, a millisecond each."""
FACTS = frozenset(Picture.__annotations__) - {"id"}
"""Its keys about the picture; the `id` is the sha256 of its bytes."""


async def by_id(
    dialogue: Sequence[BaseMessage], store: ImageStore, sizes: Sizes, known: Mapping[str, Picture]
) -> list[BaseMessage]:
    """A copy of the dialogue with facts about its pictures; `known` holds crops with their boxes. The views are encoded.

    Raises:
        Refused: a picture is not in the store any more.
    """
    blocks = [block for message in dialogue for block in image_blocks(message)]
    records = {block["id"]: known.get(block["id"]) or store.known(block["id"]) for block in blocks}
    if any(records[b["id"]] is None or store.cached_block(b["id"], *sizes(b)) is None for b in blocks):
        await asyncio.to_thread(_prepare, blocks, store, sizes, records)

    def told(block: Block) -> Block:
        return {**block, "type": TOLD, **facts(records[block["id"]])}  # type: ignore[arg-type]

    return [_replaced(message, told) for message in dialogue]


def _prepare(blocks: list[Block], store: ImageStore, sizes: Sizes, records: dict[str, Picture | None]) -> None:
    for block in blocks:
        store.block(block["id"], *sizes(block))
        records[block["id"]] = records[block["id"]] or store.picture(block["id"])


async def materialise(dialogue: Sequence[BaseMessage], store: ImageStore, sizes: Sizes) -> list[BaseMessage]:
    """A copy of the dialogue that holds the bytes of its pictures, each in its size and without facts for callbacks."""
    views = [(block["id"], sizes(block)) for message in dialogue for block in image_blocks(message)]
    missing = [(identity, view) for identity, view in views if store.cached_block(identity, *view) is None]
    if missing:
        await asyncio.to_thread(lambda: [store.block(identity, *view) for identity, view in missing])

    def filled(block: Block) -> Block:
        kept = {key: value for key, value in block.items() if key not in FACTS}  # such as the mark of a thumbnail
        return {**kept, **store.block(block["id"], *sizes(block))}

    return [_replaced(message, filled) for message in dialogue]


def image_blocks(message: BaseMessage) -> list[Block]:
    """The image blocks of a user message; a policy's message has none."""
    if not isinstance(message, HumanMessage) or isinstance(message.content, str):
        return []
    return [block for block in message.content if _is_image(block)]


def _replaced(message: BaseMessage, change: Callable[[Block], Block]) -> BaseMessage:
    """A copy of a user message with other image blocks; any other message as it is."""
    if not image_blocks(message):
        return message
    content = [change(block) if _is_image(block) else block for block in message.content]
    return message.model_copy(update={"content": content})


def _is_image(block: object) -> TypeGuard[Block]:
    return isinstance(block, dict) and block.get("type") in ("image", TOLD)
