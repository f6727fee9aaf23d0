"""Search tools that wait before they answer, as over a network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from pydantic import PrivateAttr

from lensgraph.tools.base import ImageSearch, LensTool, TextSearch
from lensgraph.tools.results import SearchResult


class SlowText(TextSearch):
    """A text search that waits `_seconds()` before every call."""

    _inner: Any = PrivateAttr()
    _seconds: Callable[[], float] = PrivateAttr()

    async def asearch(self, query: str) -> SearchResult:
        """Wait, then search."""
        await asyncio.sleep(self._seconds())
        result: SearchResult = await self._inner.asearch(query)
        return result


class SlowImage(ImageSearch):
    """An image search that waits `_seconds()` before every call."""

    _inner: Any = PrivateAttr()
    _seconds: Callable[[], float] = PrivateAttr()

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Wait, then search."""
        await asyncio.sleep(self._seconds())
        result: SearchResult = await self._inner.asearch(image)
        return result


def slowed(tools: Mapping[str, LensTool], bounds: tuple[float, float], seed: int) -> dict[str, LensTool]:
    """The tools, with searches that first wait uniformly between two bounds (seconds); an upper bound of 0: as
    they are."""
    if bounds[1] <= 0:
        return dict(tools)
    rng = random.Random(seed)

    def seconds() -> float:
        return rng.uniform(*bounds)

    text, image = SlowText(), SlowImage()
    text._inner, text._seconds = tools["text_search"], seconds
    image._inner, image._seconds = tools["image_search"], seconds
    return {**tools, "text_search": text, "image_search": image}
