"""The wordings in which people ask: every relation in many of them, some kept for the test split.

The wordings are data, `data/phrasings.txt`, whose head describes the format; `parse` reads any text of that format.

Invariant: a wording's id (`capital/3`) never changes meaning, because trained models and reports refer to it; `reserved`
wordings appear in no training or validation task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from lensgraph.tools.local.world.entities import DATA

Frames = Literal["country", "country in a scene", "thing"]
"""Kinds of picture that a question can speak of: one flag, one flag of several (`{T}` tells which), one thing (`{N}` is
`animal`, `plant`, `food`, ...). The frames of a kind are what `{C}` and `{X}` become."""
FRAME_NAMES: tuple[Frames, ...] = get_args(Frames)
"""The kinds in their order."""


@dataclass(frozen=True)
class Phrasing:
    """One wording of one relation."""

    id: str
    """`relation/number`; lay wordings are `relation/lay-number`."""
    relation: str
    text: str
    """The question, with placeholders `{C}`, `{X}`, `{T}` or `{N}`."""
    reserved: bool
    """True: used by the test split only."""
    lay_query: str = ""
    """The words that a person would type first; empty for formal wordings."""


@dataclass(frozen=True)
class Wordings:
    """All wordings of one relation."""

    formal_query: str
    """The page's own words for the relation; follows the entity's name in a good query."""
    formal: tuple[Phrasing, ...]
    lay: tuple[Phrasing, ...]


@cache
def wordings() -> dict[str, Wordings]:
    """Relation -> its wordings."""
    return {name: row for name, row in _shipped().items() if name not in FRAME_NAMES}


def frames(name: Frames, *, reserved: bool) -> list[str]:
    """The frames that a split may use: all of them with `reserved`, else only the open ones."""
    return [frame.text for frame in _shipped()[name].formal if reserved or not frame.reserved]


@cache
def _shipped() -> dict[str, Wordings]:
    return parse((DATA / "phrasings.txt").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Wordings]:
    """Relation -> its wordings, from a text of the format that `data/phrasings.txt` describes.

    Raises:
        ValueError: a block has no `relation: query` line or comes twice, or a lay wording has no words of a query.
    """
    table: dict[str, Wordings] = {}
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip()):
        relation, row = _block(block.strip().splitlines())
        if relation in table:
            raise ValueError(f"the wordings of {relation!r} come twice; join the two blocks")
        table[relation] = row
    return table


def _block(lines: list[str]) -> tuple[str, Wordings]:
    relation, colon, query = lines[0].partition(": ")
    if not colon:
        raise ValueError(f"{lines[0]!r} begins a block of wordings; it must read 'relation: query'")
    formal: list[Phrasing] = []
    lay: list[Phrasing] = []
    for line in lines[1:]:
        reserved, text = line.startswith("!"), line.removeprefix("!")
        if text.startswith("~"):
            text, arrow, words = text[1:].partition("=>")
            if not arrow:
                raise ValueError(f"{relation}: the lay wording {line!r} must end in '=> words of a query'")
            lay.append(Phrasing(f"{relation}/lay-{len(lay)}", relation, text.strip(), reserved, words.strip()))
        else:
            formal.append(Phrasing(f"{relation}/{len(formal)}", relation, text, reserved))
    return relation, Wordings("" if query == "-" else query, tuple(formal), tuple(lay))
