"""Expressions that single out one item of a scene: `the second flag from the left`, `the largest item`."""

from __future__ import annotations

from itertools import pairwise

from lensgraph.tools.local.world import measures
from lensgraph.tools.local.world.questions.scenes import Item, Scene

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
"""Words for the ranks of up to six items."""
APART = 20
"""Two items are left and right of each other only if their centres are this many pixels apart."""


def targets(scene: Scene, index: int) -> list[str]:
    """Every expression that means item `index` and no other; with one item there is nothing to single out."""
    item = scene.items[index]
    nouns = ["item", "thing", "picture"]
    found: list[str] = []
    for noun in [*nouns, *(["flag"] if item.is_flag else [])]:
        others = [o for o in scene.items if noun != "flag" or o.is_flag]
        if len(others) == 1:
            if noun == "flag":
                found += ["the flag", "the only flag"]
            continue
        found += _by_order(item, others, noun, 0, ("left", "right"), ("leftmost", "rightmost"))
        if scene.rows > 1 and scene.columns == 1:
            found += _by_order(item, others, noun, 1, ("top", "bottom"), ("topmost", "bottommost"))
        if scene.rows > 1 and scene.columns > 1 and noun != "flag":
            found += _corner(scene, item, noun)
        found += _by_size(item, others, noun)
    if item.is_flag:
        found += _by_colour(scene, item)
    return found


def _by_order(
    item: Item, others: list[Item], noun: str, axis: int, sides: tuple[str, str], extremes: tuple[str, str]
) -> list[str]:
    places = sorted(o.centre[axis] for o in others)
    if any(b - a < APART for a, b in pairwise(places)):
        return []
    rank, count = places.index(item.centre[axis]), len(places)
    first, last = sides
    found = [
        f"the {ORDINALS[rank]} {noun} from the {first}",
        f"the {ORDINALS[count - 1 - rank]} {noun} from the {last}",
    ]
    if rank == 0:
        found += [
            f"the {extremes[0]} {noun}",
            f"the {noun} on the far {first}" if axis == 0 else f"the {noun} at the top",
        ]
    if rank == count - 1:
        found += [
            f"the {extremes[1]} {noun}",
            f"the {noun} on the far {last}" if axis == 0 else f"the {noun} at the bottom",
        ]
    if count == 3 and rank == 1:
        found.append(f"the {noun} in the middle")
    return found


def _corner(scene: Scene, item: Item, noun: str) -> list[str]:
    x, y = item.centre
    column, row = int(x * scene.columns / scene.width), int(y * scene.rows / scene.height)
    if column not in (0, scene.columns - 1) or row not in (0, scene.rows - 1):
        return []
    place = f"{'top' if row == 0 else 'bottom'} {'left' if column == 0 else 'right'}"
    return [f"the {noun} in the {place} corner", f"the {place} {noun}", f"the {noun} at the {place}"]


def _by_size(item: Item, others: list[Item], noun: str) -> list[str]:
    rest = [o.area for o in others if o is not item]
    if item.area > 1.5 * max(rest):
        return [f"the largest {noun}", f"the biggest {noun}"]
    if item.area * 1.5 < min(rest):
        return [f"the smallest {noun}"]
    return []


def _by_colour(scene: Scene, item: Item) -> list[str]:
    colours = [measures.shipped()[f"{o.rendition}/{o.entity_id}"].colour for o in scene.items if o.is_flag]
    own = measures.shipped()[f"{item.rendition}/{item.entity_id}"].colour
    # A flag without a main colour could still look "mostly red" to somebody.
    if own is None or None in colours or colours.count(own) != 1 or len(colours) < 2:
        return []
    return [f"the mostly {own} flag", f"the {own} flag"]
