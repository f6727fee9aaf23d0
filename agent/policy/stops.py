"""Stop strings: texts at which a turn ends. A closing tag belongs to the turn that it ends; any other stop string is cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

CLOSING_TAG = re.compile(r"</([A-Za-z_][\w-]*)>")
"""A closing tag; group 1 is its name."""
TAIL = 32
"""Newest tokens that are decoded to look for a stop string; of a string that is longer in tokens, its end is found."""


def are_closing_tags(stops: Sequence[str]) -> bool:
    """Whether there are stop strings and all of them are closing tags."""
    return bool(stops) and all(CLOSING_TAG.fullmatch(stop) for stop in stops)


def stopped(tokenizer: Any, ids: Sequence[int], stops: Sequence[str]) -> bool:
    """Whether the newest tokens hold a stop string."""
    if not stops:
        return False
    tail = tokenizer.decode(list(ids[-TAIL:]), skip_special_tokens=False)
    return any(stop in tail for stop in stops)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string that is no closing tag."""
    places = [text.find(stop) for stop in stops if stop in text and not CLOSING_TAG.fullmatch(stop)]
    return text[: min(places)] if places else text
