"""An asynchronous iterator for callers without an event loop.

Invariant: when the caller stops reading, the iterator is cancelled and its thread has ended before `iterate` returns.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from lensgraph.tools.runtime import loops

T = TypeVar("T")


def iterate(begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Run the iterator that `begin` makes in a thread that has its own event loop, and yield its items here."""
    parts: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    loop = loops.new()

    async def pump() -> None:
        async for part in begin():
            parts.put(("part", part))

    task = loop.create_task(pump())

    def run() -> None:
        try:
            loop.run_until_complete(task)
            parts.put(("end", None))
        except BaseException as error:  # carried to the caller's thread
            parts.put(("error", error))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    # The context variables hold the caller's run, if there is one: its callbacks and its namespace.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="graph")
    thread.start()
    try:
        while True:
            kind, value = parts.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:  # also when the caller stops reading
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
