"""The chat that a client sends: its messages, and the pictures in them."""

from lensgraph.agent.chat.messages import (
    Block,
    as_messages,
    blocks_of,
    hidden_data,
    last_human,
    latest_pictures,
    pictures_of,
    storable,
    text_of,
    with_blocks,
)
from lensgraph.agent.chat.picture_blocks import source_of, unreadable

__all__ = [
    "Block", "as_messages", "blocks_of", "hidden_data", "last_human", "latest_pictures", "pictures_of", "source_of",
    "storable", "text_of", "unreadable", "with_blocks",
]  # fmt: skip
