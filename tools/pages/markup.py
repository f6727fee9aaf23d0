"""Limits on the markup of a page, and the words of a page that holds no article.

The time to take the article out of a page grows faster than its tags: 400 kB of `<br>` take 11 s of a processor, 5 MB minutes,
and the thread cannot be stopped. Only the beginning of a page is shown anyway (`max_chars`).

Invariant: reading the result of `limited` takes a few seconds at most, whatever the shape of the page.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from lensgraph.tools.documents import readers

MAX_CHARS = 1_000_000
"""Most of a page that is looked at, in characters (bytes, if its encoding is unknown)."""
MAX_TAGS = 10_000
"""Most tags: with the worst page known (words in spans) 2.5 s on one core; 30,000 characters of a page full of links and
footnotes take about 4,000, its menus 2,000."""

T = TypeVar("T", str, bytes)


def limited(page: str | bytes) -> str | bytes:
    """The page up to the limits; a parser closes what is left open."""
    return _cut(page, b"<") if isinstance(page, bytes) else _cut(page, "<")


def _cut(page: T, tag: T) -> T:
    page = page[:MAX_CHARS]
    parts = page.split(tag, MAX_TAGS + 1)
    return page if len(parts) <= MAX_TAGS + 1 else page[: -len(parts[-1]) - 1]


def all_words(tree: Any) -> tuple[str, str]:
    """Title and visible words of a parsed page (lxml), for one that is a list of links or otherwise no article."""
    title = tree.findtext(".//title") or tree.findtext(".//h1") or ""
    parts: list[str] = []
    _collect(tree, parts)
    return " ".join(title.split()), readers.tidy("".join(parts))


def _collect(tree: Any, parts: list[str]) -> None:
    """Without recursion: a page may be nested as deeply as it has tags."""
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        if node.tail:
            todo.append(_spaced(node.tail))
        if not isinstance(node.tag, str) or node.tag in readers.SILENT:  # comments have no name
            continue
        block = node.tag in readers.BLOCKS
        if block:
            todo.append("\n")
        todo += reversed(list(node))
        parts.append("\n" if block else " " if node.tag in ("td", "th") else "")
        parts.append(_spaced(node.text or ""))


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text)
