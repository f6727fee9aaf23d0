"""Locating a region from an expression, offline: classical proposals and a small grammar.

`proposals` finds regions, `flags` and `colours` measure them, `grammar` reads the expression, `choose_regions` joins the two.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from PIL import Image

from lensgraph.tools.base import Locator
from lensgraph.tools.locate.choose_regions import choose
from lensgraph.tools.locate.grammar import parse
from lensgraph.tools.locate.proposals import propose
from lensgraph.tools.results import LocateResult, Region


class LocalLocator(Locator):
    """Finds items on a calm background by position, order, size and colour. Needs no key, no network and no model."""

    on_this_machine: ClassVar[bool] = True

    description: str = (
        "Find one item in a picture by position, order, size or colour: 'the second flag from the left', "
        "'the largest item', 'the red flag', 'top right'. Returns boxes in pixels."
    )

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """Locate in a worker thread."""
        regions = await asyncio.to_thread(_locate, image, expression)
        return LocateResult(expression=expression, regions=regions)


def _locate(image: Image.Image, expression: str) -> list[Region]:
    return choose(parse(expression), propose(image), expression)
