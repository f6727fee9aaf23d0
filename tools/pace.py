"""The pace of requests to one service or host: a client-side rate limit, and pauses that a server asks for."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import ClassVar

from lensgraph.tools.results import ToolFailure

LONGEST_HOLD = 60.0
"""Most seconds that one answer keeps all callers of a service waiting: a service that asks for an hour is asked every minute."""
KEPT_PACES = 2_000
"""Most services and hosts whose pace is remembered, beyond those that are being waited for."""


class Pace:
    """A client-side rate limit shared by all callers of one service in this process, whatever their event loop."""

    _all: ClassVar[dict[str, Pace]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._free_at = 0.0
        self._guard = threading.Lock()

    @classmethod
    def of(cls, name: str) -> Pace:
        """The pace of a service, by its name."""
        with cls._lock:
            found = cls._all.pop(name, None) or cls()
            cls._all[name] = found  # last: the one used last
            if len(cls._all) > KEPT_PACES:
                cls._forget()
            return found

    @classmethod
    def _forget(cls) -> None:
        """Drop half of the idle ones, those not used for longest first: a page fetcher meets new hosts for as long as it runs,
        and a pace whose next slot is free is as good as a new one."""
        now = time.monotonic()
        idle = [name for name, pace in cls._all.items() if pace._free_at <= now]
        for name in idle[: KEPT_PACES // 2]:
            del cls._all[name]

    def hold(self, seconds: float) -> None:
        """Let nobody's turn come for `seconds`, `LONGEST_HOLD` at most, because the service asked for it."""
        with self._guard:
            self._free_at = max(self._free_at, time.monotonic() + min(seconds, LONGEST_HOLD))

    def held(self) -> float:
        """Seconds until the next turn; 0: it may begin now."""
        with self._guard:
            return max(0.0, self._free_at - time.monotonic())

    async def turn(self, per_second: float, patience: float = math.inf) -> None:
        """Wait for the next free slot at `per_second` requests a second.

        Raises:
            ToolFailure: the wait would be longer than `patience` seconds; no slot is taken.
        """
        with self._guard:
            now = time.monotonic()
            slot = max(now, self._free_at)
            if slot - now > patience:
                raise ToolFailure(
                    "rate_limited",
                    f"{slot - now:.1f} s of requests are waiting already at {per_second:g} requests a second.",
                )
            self._free_at = slot + 1 / per_second
        if slot > now:
            await asyncio.sleep(slot - now)
