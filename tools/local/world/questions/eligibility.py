"""The facts, lay wordings and drawings that a split may ask with."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache

from lensgraph.tools.local.world import entities, measures, renditions
from lensgraph.tools.local.world.entities import DATA, Entity, Split
from lensgraph.tools.local.world.facts import gather
from lensgraph.tools.local.world.facts.relations import Fact
from lensgraph.tools.local.world.questions.wording import names_of

MODE_CAP = 0.12
"""No answer may be right for more than this share of a split's facts of one relation in the searching families."""


@cache
def held_out_names() -> frozenset[str]:
    """Names of validation and test entities, in lower case: in training none of them is the answer of a fact."""
    held = (e for e in entities.load_entities() if e.split != "train")
    return frozenset(name.lower() for entity in held for name in names_of(entity))


@cache
def capped(split: Split, relation: str) -> tuple[Fact, ...]:
    """Facts of a relation for the searching families: unknown entities, no answer above `MODE_CAP`; in training none whose
    answer names an entity of another split (a partner in trade, a kind of animal)."""
    found = [
        fact
        for fact in gather.facts()
        if fact.relation == relation
        and (entity := entities.get(fact.entity_id)).split == split
        and not entity.known
        and query_renditions(split, entity)
        and not (split == "train" and held_out_names() & {name.lower() for name in (fact.gold, *fact.aliases)})
    ]
    random.Random(f"cap/{split}/{relation}").shuffle(found)
    room = max(1, int(MODE_CAP * len(found)))
    seen: Counter[str] = Counter()
    kept = []
    for fact in found:
        seen[fact.gold] += 1
        if seen[fact.gold] <= room:
            kept.append(fact)
    return tuple(kept)


@cache
def verified() -> dict[str, tuple[str, ...]]:
    """Lay wording -> entities for which its words miss the answer in the real index and the formal ones find it."""
    path = DATA / "corrections.json"
    if not path.exists():
        return {}
    return {key: tuple(ids.split()) for key, ids in json.loads(path.read_text(encoding="utf-8")).items()}


def query_renditions(split: Split, entity: Entity) -> list[str]:
    """Renditions a question about this entity may show. Training: what no other split shows."""
    table = renditions.TRAIN_QUERIES if split == "train" else renditions.TEST_QUERIES
    return [name for name in table[entity.kind] if f"{name}/{entity.id}" in measures.shipped()]


def any_renditions(split: Split, entity: Entity) -> list[str]:
    """Renditions where no search follows: in training the indexed drawings too, for more artists to learn from."""
    extra = renditions.INDEXED[entity.kind] if split == "train" else ()
    found = [name for name in extra if f"{name}/{entity.id}" in measures.shipped()]
    return [*query_renditions(split, entity), *found]
