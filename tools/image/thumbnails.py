"""The small pictures that come with image results, fetched and checked by the guard.

Invariant: a thumbnail that cannot be had costs only itself: its place holds None, and the search succeeds all the same. One
that is late is given up: nothing waits for its thread, neither the search nor the end of the loop or of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

from lensgraph.tools import guard
from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.results import Hit, ToolFailure

LONGEST = 256
"""Longer side of a kept thumbnail, in pixels: about what search engines show."""
MAX_BYTES = 5 * 1024 * 1024
"""Largest picture fetched for one thumbnail."""
MAX_PIXELS = 12_000_000
"""Largest picture decoded for one thumbnail; search engines send less than a tenth of it."""
KEPT_BYTES = 64 * 1024
"""Largest thumbnail kept."""
SECONDS = 5.0
"""Time for all thumbnails of a result together, in seconds; they are fetched at the same time."""
POLICY = guard.PUBLIC_WEB
"""Addresses that thumbnails may be fetched from."""

_decoding = threading.Lock()
"""Thumbnails are decoded one after another, so that together they take the memory of one."""


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
            return await _beside(data)
    except (ToolFailure, TimeoutError):
        return None


async def _beside(data: bytes) -> bytes:
    """`_small` in a daemon thread: those of asyncio's pool are waited for when the loop and the process end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def tell(small: bytes | None, error: Exception | None) -> None:
        if done.done():  # given up
            return
        if error is not None:
            done.set_exception(error)
        elif small is not None:
            done.set_result(small)

    def work() -> None:
        small, failure = None, None
        try:
            with _decoding:
                if not done.cancelled():
                    small = _small(data)
        except Exception as error:  # carried to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(tell, small, failure)

    threading.Thread(target=work, name="thumbnail", daemon=True).start()
    return await done


def _small(data: bytes) -> bytes:
    picture = guard.open_image(data, name="thumbnail", max_pixels=MAX_PIXELS)
    return jpeg(picture, longest=LONGEST, max_bytes=KEPT_BYTES)
