"""Shorten a dialogue that is longer than the policy's context: the oldest thumbnails of search results go first.

Invariant: the question, its pictures and all texts stay; the messages that are given are not changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

LEFT_OUT = "(picture left out)"
"""Text in place of a thumbnail that was left out."""


def leave_out_oldest(messages: Sequence[BaseMessage], left_out: list[str]) -> list[BaseMessage] | None:
    """The messages without their oldest thumbnail, whose id is appended to `left_out`. None: there is no thumbnail."""
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for place, block in enumerate(message.content):
            if isinstance(block, dict) and block.get("thumbnail"):
                content = list(message.content)
                content[place] = {"type": "text", "text": LEFT_OUT}
                left_out.append(str(block.get("id", "")))
                return [*messages[:number], message.model_copy(update={"content": content}), *messages[number + 1 :]]
    return None
