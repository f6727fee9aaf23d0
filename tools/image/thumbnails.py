"""The small pictures that come with image results, fetched and checked by the guard.

Invariant: a thumbnail that cannot be had costs only itself: its place holds None, and the search succeeds all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lensgraph.tools import guard
from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.results import Hit, ToolFailure

LONGEST = 256
"""Longer side of a kept thumbnail, in pixels: about what search engines show."""
MAX_BYTES = 5 * 1024 * 1024
"""Largest picture fetched for one thumbnail."""
KEPT_BYTES = 64 * 1024
"""Largest thumbnail kept."""
SECONDS = 5.0
"""Time for all thumbnails of a result together, in seconds; they are fetched at the same time."""
POLICY = guard.PUBLIC_WEB
"""Addresses that thumbnails may be fetched from."""


async def with_thumbnails(hits: Sequence[Hit], sources: Sequence[str | None]) -> list[Hit]:
    """The hits with the pictures at `sources` (addresses or data URIs, one a hit)."""
    pictures = await asyncio.gather(*(_thumbnail(source) for source in sources))
    return [
        hit if picture is None else hit.model_copy(update={"thumbnail": picture})
        for hit, picture in zip(hits, pictures, strict=True)
    ]


async def _thumbnail(source: str | None) -> bytes | None:
    if not source:
        return None
    try:
        async with asyncio.timeout(SECONDS):
            if guard.is_inline(source):
                data, _ = guard.image_bytes(source)
            elif source.startswith(("http://", "https://")):
                data = await guard.fetch(
                    source, max_bytes=MAX_BYTES, timeout=SECONDS, policy=POLICY, want=guard.PICTURE
                )
            else:  # never a path: the source is a service's word
                return None
            return await asyncio.to_thread(_small, data)
    except (ToolFailure, TimeoutError):
        return None


def _small(data: bytes) -> bytes:
    return jpeg(guard.open_image(data, name="thumbnail"), longest=LONGEST, max_bytes=KEPT_BYTES)
