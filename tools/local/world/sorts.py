"""The sort of thing an entity is, in the words that questions use: flag, animal, plant, food, vehicle, building, object."""

from __future__ import annotations

import re

from lensgraph.tools.local.world.entities import Entity

# Code points, looked through by a person: what a group of Unicode's does not tell.
_PLANTS = frozenset(
    "1F331 1F332 1F333 1F334 1F335 1F337 1F338 1F339 1F33A 1F33B 1F33C 1F33E 1F33F 1F340 1F341 1F342 1F343 1F344 "
    "1F490 1F940 1FAB4 1FAB7 1FABB 1F3F5 2618 1F384".split()
)
_NO_ANIMAL = frozenset("1F43E 1FAB6 1FABD 1F578 1F41A 1FAB8 1FAB9 1FABA 1F4AE 1F9A0 1FABE 1FABC".split())
_NO_FOOD = re.compile(
    r"\b(chopsticks|fork|spoon|knife|plate|jar|amphora|glass(es)?|cup|mugs?|bottle|cocktail|drink|tea(pot)?|mate|ice)\b"
)
_VEHICLES = frozenset(
    "1F680 1F681 1F682 1F683 1F685 1F686 1F687 1F68A 1F68C 1F68E 1F690 1F691 1F692 1F693 1F695 1F697 1F699 1F69A 1F69B "
    "1F69C 1F69D 1F69E 1F69F 1F6A0 1F6A1 1F6A2 1F6A4 1F6B2 1F6F3 1F6F4 1F6F5 1F6F6 1F6F8 1F6F9 1F6FA 1F6FB 1F6E5 1F6E9 "
    "26F5 26F4 2708 1F3CD 1F3CE".split()
)
_BUILDINGS = frozenset(
    "1F3D8 1F3E0 1F3E1 1F3E2 1F3E3 1F3E4 1F3E5 1F3E6 1F3E8 1F3EA 1F3EB 1F3EC 1F3ED 1F3EF 1F3F0 1F3DB 1F492 26EA 1F54C "
    "1F54D 1F6D5 1F3DF 1F6D6".split()
)


def sort_of(entity: Entity) -> str | None:
    """`flag`, `animal`, `plant`, `food`, `vehicle`, `building` or `object`; None where people would disagree."""
    point = entity.codepoint
    if entity.kind == "flag":
        return "flag"
    if point in _PLANTS:
        return "plant"
    if point in _VEHICLES:
        return "vehicle"
    if point in _BUILDINGS:
        return "building"
    if entity.group == "Animals & Nature":
        return None if point in _NO_ANIMAL else "animal"
    if entity.group == "Food & Drink":
        return None if _NO_FOOD.search(entity.name) else "food"
    return "object" if entity.group == "Objects" else None
