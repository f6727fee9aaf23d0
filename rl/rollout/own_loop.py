"""Run a coroutine from synchronous code, whether or not the caller already runs an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
CANCEL_SECONDS = 5.0  # an interrupted program waits this long for its rollouts to end


def in_own_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on an event loop in a new thread, wait for it and return its result.

    An interrupt of the caller (Ctrl-C) cancels the coroutine, so that the program can end.
    """
    box: dict[str, Any] = {}
    done = threading.Event()  # not Thread.join: once interrupted, it takes a running thread for an ended one

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        box["cancel"] = lambda: loop.call_soon_threadsafe(task.cancel)
        if "interrupted" in box:  # before there was anything to cancel
            coroutine.close()
            raise asyncio.CancelledError
        return await coroutine

    def run() -> None:
        try:
            box["value"] = asyncio.run(cancellable())
        except BaseException as error:
            box["error"] = error
        finally:
            done.set()

    thread = threading.Thread(target=run, name="rollouts", daemon=True)
    try:
        thread.start()
        done.wait()
    except BaseException:
        box["interrupted"] = True
        with contextlib.suppress(KeyError, RuntimeError):  # it has not begun, or has ended
            box["cancel"]()
        done.wait(CANCEL_SECONDS)
        raise
    if "error" in box:
        raise box["error"]
    result: T = box["value"]
    return result
