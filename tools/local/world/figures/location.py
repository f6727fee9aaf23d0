"""Measures how often the embedded locator finds the item that an expression means, on the scenes of the world's questions.

A region counts as found if it overlaps the item's box by at least `OVERLAP` (intersection over union). Every expression
that singles an item out is asked, not only the one that a question happened to use, and a locator that gives up has not found it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from lensgraph.tools.local.world.questions import expressions, splits
from lensgraph.tools.locate.local_locator import LocalLocator
from lensgraph.tools.results import Box, ToolFailure

OVERLAP = 0.7
"""Intersection over union from which a region counts as the item."""


@dataclass(frozen=True)
class Located:
    """Result of one expression."""

    items: int
    """Items in the scene."""
    found: bool
    """The first region is the item."""
    seconds: float
    """Time of the search."""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(0, width) * max(0, height)
    return shared / (a.area + b.area - shared)


def measure(split: str = "test", limit: int | None = None) -> list[Located]:
    """Locate every expression for every item of the split's crop scenes (`limit`: of so many scenes)."""
    return asyncio.run(_measure(split, limit))


async def _measure(split: str, limit: int | None) -> list[Located]:
    locator, made = LocalLocator(), []
    for task in splits.load_split(split, "crop_text", limit=limit):
        picture = await asyncio.to_thread(task.render)
        for index, item in enumerate(task.items):
            left, top, right, bottom = item.box
            box = Box(left=left, top=top, right=right, bottom=bottom)
            for expression in expressions.targets(task.picture, index):
                started = time.perf_counter()
                try:
                    regions = (await locator.alocate(picture, expression)).regions
                except ToolFailure:  # to find nothing is an answer, and a wrong one
                    regions = []
                seconds = time.perf_counter() - started
                made.append(
                    Located(len(task.items), bool(regions) and overlap(regions[0].box, box) >= OVERLAP, seconds)
                )
    return made
