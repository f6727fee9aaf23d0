"""Stream pieces from work that runs in a thread of its own.

Invariants: pieces come in order; an exception of the work reaches the reader; a reader that goes away stops the work at its
next piece. The work has its thread from start to end, so it may hold locks and thread-bound settings between two pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
Work = Callable[[Callable[[T], None]], None]
"""Gets a function to call with each piece."""


class ReaderGone(Exception):
    """Raised in the work once the reader has gone away."""


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def stream(work: Work[T]) -> Iterator[T]:
    """The pieces, for synchronous code."""
    pieces: queue.Queue[T | _End] = queue.Queue()
    with _working(work, pieces.put):
        while True:
            piece = pieces.get()
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece


async def astream(work: Work[T]) -> AsyncIterator[T]:
    """The pieces, for a running event loop, which is not blocked."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[T | _End] = asyncio.Queue()

    def put(piece: T | _End) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the reader with it
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

    with _working(work, put):
        while True:
            piece = await pieces.get()
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece


@contextlib.contextmanager
def _working(work: Work[T], put: Callable[[T | _End], None]) -> Iterator[None]:
    gone = threading.Event()

    def emit(piece: T) -> None:
        if gone.is_set():
            raise ReaderGone
        put(piece)

    def target() -> None:
        try:
            work(emit)
        except ReaderGone:
            put(_End(None))
        except BaseException as error:  # carried to the reader
            put(_End(error))
        else:
            put(_End(None))

    threading.Thread(target=target, daemon=True, name="policy-stream").start()
    try:
        yield
    finally:
        gone.set()
