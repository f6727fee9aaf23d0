"""The cache of one folder: the same question is asked once.

Invariants: only answers are kept, an answer of "nothing found" for `EMPTY_SECONDS`; any other failure is told to those who
waited for it and forgotten. A question that was not asked anew costs nothing and says so (`cached`, price 0). A cache that
cannot be read or written costs its benefit and no search. `replay` answers from the record, whatever its age, and calls
nobody. A tool that does not declare what decides its answers (`identity`) is asked every time and nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from lensgraph.tools.cache.cache_store import LEASE_SECONDS, Found, Store, ToolStats
from lensgraph.tools.cache.encoding import decode, encode, for_free
from lensgraph.tools.cache.flights import Flight
from lensgraph.tools.cache.key import Question
from lensgraph.tools.cache.settings import CacheSettings
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.runtime.home import home
from lensgraph.tools.safety.signals import steers

EMPTY_SECONDS = 3600.0
"""Longest time that "nothing found" is believed, in seconds."""
POLL_SECONDS = 0.05
"""Seconds between two looks for another process's answer; four times as long after the first second."""
LATE = 0.95
"""A call cancelled after this share of its timeout ran into the timeout, so those who waited need not try again."""

R = TypeVar("R", bound=BaseModel)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Events of this process."""

    calls: int = 0
    """Questions that were asked."""
    hits: int = 0
    """Answers from the table."""
    near: int = 0
    """Answers from the table to a nearly equal picture."""
    joined: int = 0
    """Answers shared with somebody who was just asking the same."""
    missing: int = 0
    """Questions that a replay had no answer to."""
    evicted: int = 0
    """Kept answers that had to go for new ones."""
    broken: int = 0
    """Times that the file could not be read or written."""


@dataclass(frozen=True)
class _Asked(Generic[R]):
    """One question to one tool."""

    tool: str
    """The tool's class, for messages and statistics."""
    space: str
    """Digest of what decides the tool's answers."""
    key: str
    """Digest of that and of the question."""
    question: Question
    call: Callable[[], Awaitable[R]]
    """Asks the tool itself."""
    read: type[R]
    """Type of an answer."""
    price: float
    """US dollars that a call costs unless its answer says so."""


class Cache:
    """The cache of one folder, shared by threads, event loops and processes."""

    def __init__(self, settings: CacheSettings | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings or CacheSettings()
        self.folder = Path(self.settings.folder).expanduser() if self.settings.folder else home() / "cache"
        self.counts = Counts()
        replaying = self.settings.mode == "replay"
        self.store = Store(
            self.folder, max_bytes=self.settings.max_bytes, max_age=self.settings.ttl, readonly=replaying, clock=clock
        )
        self._after_fork()
        _caches.add(self)

    def _after_fork(self) -> None:
        """A child process has none of the calls that its parent has in flight."""
        self._guard = threading.Lock()
        self._flights: dict[str, Flight[Any]] = {}

    async def answer(
        self,
        identity: str | None,
        tool: str,
        ask: Callable[[], Question],
        call: Callable[[], Awaitable[R]],
        read: type[R],
        *,
        seconds: float,
        price: float,
    ) -> R:
        """The answer to a question, from the table, from a call under way, or from `call`.

        Args:
            identity: what decides the tool's answers (`identity.identity`). None: unknown, so nothing is kept.
            tool: name of the tool, for messages and statistics.
            ask: makes the question; runs in a thread.
            call: asks the tool itself.
            read: type of the answer.
            seconds: timeout that `call` runs under.
            price: US dollars that `call` costs unless its answer says so.

        Raises:
            ToolFailure: `call` raised it, or a replay has no answer.
        """
        if identity is None:
            return await self._uncached(tool, call)
        began = time.monotonic()  # before the question is made: the caller's clock runs already
        question = await asyncio.to_thread(ask)
        space = hashlib.sha256(identity.encode()).hexdigest()
        key = hashlib.sha256(f"{space} {question.key}".encode("utf-8", "surrogatepass")).hexdigest()
        asked = _Asked(tool, space, key, question, call, read, price)
        first = True
        while True:
            with self._guard:
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = Flight(seconds)
            if leads:
                return await self._fly(flight, asked, began if first else time.monotonic())
            first = False
            landed = await flight.wait()
            if landed is None:  # the call was cancelled: the next caller makes it
                continue
            if _is_timeout(landed) and flight.seconds < seconds:
                if flight.seconds < began + seconds - time.monotonic():  # more time is left here than was given there
                    continue
                said = f"{tool}: no answer in the {flight.seconds:g} s of another caller who asked the same."
                landed = ToolFailure("timeout", said)
            self._count(joined=1)
            return _shared(landed)

    async def _fly(self, flight: Flight[R], asked: _Asked[R], began: float) -> R:
        """Make the call for everybody in this process who asks the same; `began` is when the clock of its call started.

        A caller that first waited for another has less time left than a call is given: its timeout says nothing about the
        service, so that the next caller asks again."""
        outcome: R | Exception | None = None
        try:
            outcome = await (self._replayed(asked) if self.settings.mode == "replay" else self._lead(asked))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        except asyncio.CancelledError:
            if time.monotonic() - began >= LATE * flight.seconds:
                outcome = TimeoutError()
            raise
        except Exception as error:
            outcome = None if steers(error) else error  # an interrupt is of this graph: the next caller asks itself
            raise
        finally:
            with self._guard:
                self._flights.pop(asked.key, None)
            flight.land(outcome)

    async def _uncached(self, tool: str, call: Callable[[], Awaitable[R]]) -> R:
        """The answer of a tool that does not declare what decides it."""
        if self.settings.mode == "replay":
            self._count(missing=1)
            raise ToolFailure(
                "unavailable",
                f"{tool}: a setting of it cannot be told from another, so nothing was kept, and a replay asks nobody.",
            )
        _say_uncached(tool)
        self._count(calls=1)
        return await call()

    async def _lead(self, asked: _Asked[R]) -> R | Exception:
        """The answer, as the only one in this process who asks."""
        owner = uuid.uuid4().hex
        known = await self._look_or_claim(asked, owner)
        if known is not None:
            return known
        self._count(calls=1)
        alive = asyncio.create_task(self._renew(asked.key, owner))
        kept = False
        try:
            outcome = await _outcome(asked.call)
            kept = await self._keep(asked, owner, outcome)
            return outcome
        finally:
            alive.cancel()
            if not kept:
                with suppress(RuntimeError):  # the loop is being closed: the claim ends by itself
                    # Without waiting for it: this may be a cancellation.
                    asyncio.get_running_loop().run_in_executor(None, self._release, asked.key, owner)

    async def _look_or_claim(self, asked: _Asked[R], owner: str) -> R | Exception | None:
        """The kept answer, once no other process is getting it; None: `owner` is to ask."""
        waited = 0.0
        while True:
            look = await self._try(self.store.look_or_claim, asked.key, asked.space, asked.question, owner)
            if isinstance(look, Found):
                known = decode(look.value, asked.read)
                if known is not None:
                    self._count(hits=1, near=int(look.near))
                    return known
                logger.warning(
                    "tools.cache: a kept answer of %s is damaged or of another version; it is asked for again",
                    asked.tool,
                )
                broken = self.counts.broken
                await self._try(self.store.forget, look.key)
                if self.counts.broken > broken:
                    return None
                continue
            if look is not False:  # the claim is ours, or the file cannot be used
                return None
            pause = POLL_SECONDS if waited < 1 else 4 * POLL_SECONDS
            await asyncio.sleep(pause)
            waited += pause

    async def _keep(self, asked: _Asked[R], owner: str, outcome: R | Exception) -> bool:
        """Put an outcome into the table, which also ends the claim; False: it is none to keep."""
        value = encode(outcome)
        if value is None:
            return False
        ttl = math.inf if self.settings.ttl is None else self.settings.ttl
        if isinstance(outcome, Exception) or getattr(outcome, "error", None) is not None:
            ttl = min(ttl, EMPTY_SECONDS)
        paid = float(getattr(outcome, "price", 0.0)) or asked.price
        gone = await self._try(
            self.store.put, asked.key, asked.space, asked.question, owner,
            tool=asked.tool, value=value, price=paid, ttl=min(ttl, 1e12),
        )  # fmt: skip
        self._count(evicted=gone or 0)
        return True

    async def _replayed(self, asked: _Asked[R]) -> R | Exception:
        look = await self._try(self.store.look, asked.key, asked.space, asked.question)
        known = decode(look.value, asked.read) if isinstance(look, Found) else None
        if known is None:
            self._count(missing=1)
            raise ToolFailure(
                "unavailable",
                f"{asked.tool}: this question is not in the recorded run, and a replay asks nobody "
                "(tools.cache.mode is replay; record with mode: use).",
            )
        self._count(hits=1, near=int(isinstance(look, Found) and look.near))
        return known

    async def _renew(self, key: str, owner: str) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._try(self.store.renew, key, owner)

    def _release(self, key: str, owner: str) -> None:
        with suppress(sqlite3.Error, OSError):  # the claim ends by itself
            self.store.release(key, owner)

    async def _try(self, step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The result of a step of the store, run in a thread; None if the file cannot be used."""
        try:
            return await asyncio.to_thread(step, *arguments, **named)
        except (sqlite3.Error, OSError) as error:
            self._count(broken=1)
            if self.counts.broken == 1:
                logger.warning(
                    "tools.cache: %s cannot be used (%s); answers are not kept, and what was kept is asked and paid for again; "
                    "make room or mend the folder, or remove a damaged file with `lensgraph cache clear`",
                    self.store.path, error,
                )  # fmt: skip
            await asyncio.to_thread(self.store.close)  # opened anew: the folder may be back
            return None

    def _count(self, **more: int) -> None:
        with self._guard:
            self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})

    def stats(self) -> list[ToolStats]:
        """Entries of the folder, tool by tool."""
        return self.store.stats()

    def clear(self) -> int:
        """Forget every kept answer; returns their number."""
        return self.store.clear()


@functools.cache
def _say_uncached(tool: str) -> None:
    logger.warning(
        "%s is not cached: a setting of it, such as a function or a connection, cannot be told from another; declare the "
        "field with exclude=True if it decides no answer", tool,
    )  # fmt: skip


async def _outcome(call: Callable[[], Awaitable[R]]) -> R | Exception:
    """The answer of the call, or the failure that says that nothing was found; any other failure is raised."""
    try:
        return await call()
    except ToolFailure as failure:
        if failure.reason != "empty":
            raise
        return failure


def _is_timeout(outcome: object) -> bool:
    return isinstance(outcome, TimeoutError) or (isinstance(outcome, ToolFailure) and outcome.reason == "timeout")


def _shared(outcome: R | Exception) -> R:
    """An outcome for a caller that did not pay for it; a failure is raised."""
    if isinstance(outcome, ToolFailure):  # a new one: a traceback grows with everyone who raises the same
        raise ToolFailure(outcome.reason, str(outcome), status=outcome.status, wait=outcome.wait)
    if isinstance(outcome, Exception):
        raise outcome.with_traceback(None)
    return for_free(outcome)


_caches: weakref.WeakSet[Cache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in _caches:
        cache._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
