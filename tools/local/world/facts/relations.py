"""The records that facts are made of: a kind of question (`Relation`) and one answer (`Fact`) with what else is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import TypedDict

from lensgraph.tools.local.world.entities import Kind


class Tolerance(TypedDict, total=False):
    """The difference from the gold that still leaves an answer right. An absent key grants nothing."""

    relative: float
    """Largest relative error of a number, for example 0.02."""
    unit: str
    """Unit of the gold: `km`, `sq km`, `m`, `years`, `%`, ... The answer may leave it out or use a unit of the same
    dimension."""
    unordered: bool
    """The gold is a list joined by commas whose order does not matter."""


@dataclass(frozen=True)
class Fact:
    """One answer about one entity."""

    entity_id: str
    relation: str
    """Key of `RELATIONS`."""
    gold: str
    """The answer as the page writes it."""
    aliases: tuple[str, ...]
    """Other answers a fair person accepts; never holds `gold`."""
    tolerance: Tolerance | None
    """None: the words must match."""
    page_id: str
    """Page that states it."""
    page_title: str
    line: str
    """The line or sentence of the page, verbatim, that holds the gold."""


Parsed = tuple[str, list[str]]
"""Gold answer and its aliases."""


@dataclass(frozen=True)
class Relation:
    """A kind of question about countries or about things."""

    name: str
    kind: Kind
    chapter: str = ""
    """Factbook chapter; empty for things."""
    path: tuple[str, ...] = ()
    """Keys under the chapter; empty for things."""
    parse: Callable[[str], Parsed | None] = field(default=lambda value: None)
    """Whole cleaned value -> answer, or None when it is not one short answer."""
    tolerance: Tolerance | None = None
