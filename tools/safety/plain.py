"""Snippets without markup: words that a search service highlights with tags become plain words on one line.

Not a sanitiser: the result is still text from outside, and a dialect escapes it before a policy reads it.
"""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


def plain(text: object, limit: int | None = None) -> str:
    """`text` without tags and entities, white space folded, cut to `limit` characters; "" for any other type."""
    if not isinstance(text, str):
        return ""
    return " ".join(html.unescape(_TAG.sub("", text)).split())[:limit]


def rows(found: object, key: str) -> list[dict[str, object]] | None:
    """The records under `key` of an answer; None if the answer holds no such list."""
    listed = found.get(key) if isinstance(found, dict) else None
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else None
