"""The thought and the answer of a turn of tags while it is being written.

Invariants: no tag of the protocol is in them, and no piece of one; whatever the parts in which the turn comes, they are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from langchain_core.messages import AIMessageChunk

from lensgraph.agent.dialects.tags import may_give_up

Part = Literal["thought", "answer"]
_TAG = re.compile("</?(?:reason|think|answer|text_search|img_search|image_search|search|crop)>")
_MAY_BE_A_TAG = re.compile(r"</?[a-z_]{0,12}\Z")
_SPACE = re.compile(r"\s+")


class Growing:
    """Reads a turn as it grows: its first thought, and behind its thoughts the first answer up to the next tag. The dialect
    reads the whole turn once it is there."""

    def __init__(self, *, collapse: bool = False) -> None:
        """`collapse`: white space inside an answer becomes one space, as in lenient reading."""
        self._collapse = collapse
        self._unread = ""
        """Text that may become a tag."""
        self._inside: Part | None = None
        """The text that is being told."""
        self._closing = ""
        """The tag that ends the thought that is being written."""
        self._seen: set[str] = set()
        self._held = ""
        """Text that may not belong to the thought or answer, which are stripped."""
        self._begun = False

    def hear(self, chunk: AIMessageChunk) -> Iterator[tuple[Part, str]]:
        """As `add`, of LangChain's piece of a turn."""
        return self.add(str(chunk.text))

    def add(self, piece: str) -> Iterator[tuple[Part, str]]:
        """The pieces of thought and answer that this piece of the turn brings."""
        text = self._unread + piece
        cut = _MAY_BE_A_TAG.search(text)
        self._unread, text = (text[cut.start() :], text[: cut.start()]) if cut else ("", text)
        place = 0
        for tag in _TAG.finditer(text):
            yield from self._told(text[place : tag.start()])
            self._enter(tag[0])
            place = tag.end()
        yield from self._told(text[place:])

    def _enter(self, tag: str) -> None:
        was_answer = self._inside == "answer"
        self._inside, self._held, self._begun = None, "", False
        if self._closing:
            self._closing = "" if tag == self._closing else self._closing
        elif was_answer or "answer" in self._seen:
            return  # nothing is told behind an answer
        elif tag in ("<reason>", "<think>"):
            self._closing = tag.replace("<", "</")
            self._inside = None if "thought" in self._seen else "thought"
        else:
            self._inside = "answer" if tag == "<answer>" else None
            self._seen.add("answer")
        if self._inside:
            self._seen.add(self._inside)

    def _told(self, text: str) -> Iterator[tuple[Part, str]]:
        if self._inside is None:
            return
        text = self._held + text
        if self._collapse and self._inside == "answer":
            text = _SPACE.sub(" ", text)
        text = text if self._begun else text.lstrip()
        told = text.rstrip()
        if self._inside == "answer" and not self._begun and may_give_up(told):
            told = ""
        self._held = text[len(told) :]
        if told:
            self._begun = True
            yield self._inside, told
