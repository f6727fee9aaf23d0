"""Event loops for callers that have none, which end when their work ends.

`asyncio.run` waits at its end for the loop's threads, and Python at its own end for those of every pool. So a library that
sleeps in a thread would hold a caller for as long as it likes, whatever timeout it was given.

Invariant: a loop made here ends within `GRACE` seconds of its last task, and none of its threads keeps the program alive; work
that goes on in one is abandoned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

GRACE = 0.25
"""Seconds that busy threads are given at the end, so that small things, such as releasing a claim, are still done."""
MOST = min(32, (os.cpu_count() or 1) + 4)
"""Most threads of a loop: as many as asyncio's own pool has."""

WORKER = "loop worker"
"""Name of the threads."""

T = TypeVar("T")


def run(call: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, without waiting for threads that are late."""
    with asyncio.Runner(loop_factory=new) as runner:
        return runner.run(call)


def leave(code: int) -> int:
    """The exit code of a program that ends now. If a thread is late, the process ends here: Python would shut down beside it,
    and a network that it runs would abort the program."""
    if any(thread.name == WORKER and thread.is_alive() for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or never there
                stream.flush()
        os._exit(code)
    return code


def new() -> asyncio.AbstractEventLoop:
    """A loop whose threads are not waited for."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_Threads())
    return loop


class _Threads(ThreadPoolExecutor):
    """A pool of daemon threads: those of its base class are joined when Python ends. (asyncio takes no other base.)"""

    def __init__(self) -> None:
        super().__init__(max_workers=1)  # starts none: `submit` is ours
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._mine: list[threading.Thread] = []
        self._starting = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn` in a free thread, in a new one, or as soon as one becomes free."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                self._idle.release()
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # carried to whoever waits
                self._idle.release()  # before anybody hears of it: the next call finds this thread free
                future.set_exception(error)
            else:
                self._idle.release()
                future.set_result(result)

        with self._starting:
            self._todo.put(work)
            if not self._idle.acquire(blocking=False) and len(self._mine) < MOST:
                self._mine.append(threading.Thread(target=self._serve, name=WORKER, daemon=True))
                self._mine[-1].start()
        return future

    def _serve(self) -> None:
        while (work := self._todo.get()) is not None:
            work()
            del work  # or a thread that waits would keep the last result alive

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let every thread end once nothing is left to do, and wait for that, `GRACE` seconds at most."""
        with self._starting:
            for _ in self._mine:
                self._todo.put(None)
        until = time.monotonic() + GRACE
        for thread in self._mine if wait else ():
            thread.join(max(0.0, until - time.monotonic()))
