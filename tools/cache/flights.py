"""A call under way that several callers share, each in an event loop or thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Generic, TypeVar

from pydantic import BaseModel

R = TypeVar("R", bound=BaseModel)


class Flight(Generic[R]):
    """One call that is being made, and the callers that wait for its outcome."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """Timeout that the call runs under."""
        self._guard = threading.Lock()
        self._landed = False
        self._outcome: R | Exception | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def wait(self) -> R | Exception | None:
        """The outcome of the call; None: it was cancelled."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._landed:
                return self._outcome
            arrival: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, arrival))
        await arrival
        return self._outcome

    def land(self, outcome: R | Exception | None) -> None:
        """Give the outcome to everyone who waits; None: the call was cancelled."""
        with self._guard:
            self._landed, self._outcome = True, outcome
        for loop, arrival in self._waiting:
            with suppress(RuntimeError):  # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, arrival)


def _wake(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)
