"""One cache for all tools: the same question is asked once.

Siblings that ask the same at the same moment share one call, within a process (threads and event loops included) and
across processes that share the folder. What counts as the same question stands in `cache_key`, the table in `cache_store`.

Invariants: only answers are kept, an answer of "nothing found" for `EMPTY_SECONDS`; any other failure is told to those who
waited for it and forgotten. What was not asked anew costs nothing and says so (`cached`, price 0). A cache that cannot be
read or written costs its benefit and no search. `replay` answers from what was kept, whatever its age, and calls nobody.
What a tool whose settings cannot be told (`cache_identity`) answers is not kept.
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
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lensgraph.tools.cache.key import Question
from lensgraph.tools.cache.store import LEASE_SECONDS, Found, Store, ToolStats
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.runtime.home import home

Mode = Literal["off", "use", "replay"]
EMPTY_SECONDS = 3600.0
"""How long "nothing found" is believed, at most."""
POLL_SECONDS = 0.05
"""How often one process looks whether another has the answer; four times as long after the first second."""
KEPT_CACHES = 32
"""Caches of different settings that a process shares out; one used longer ago is opened anew."""
LATE = 0.95
"""A call that was cut off after this share of its time ran into its timeout, and those who waited need not try again."""


R = TypeVar("R", bound=BaseModel)
logger = logging.getLogger(__name__)


class CacheSettings(BaseModel):
    """What is kept of what tools answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    mode: Annotated[Mode, BeforeValidator(lambda value: "off" if value is False else value)] = "use"
    """`use`: the same question is asked once. `replay`: answers come from what was kept and nobody is called, also without
    a network or keys. `off`: every question is asked. Tools that say that they answer on this machine (`on_this_machine`),
    such as the embedded engine, are not cached and run in a replay too."""
    folder: str | None = None
    """Where; several processes may share it. None: `cache` in the folder that LENSGRAPH_HOME names."""
    ttl: float | None = Field(default=7 * 24 * 3600.0, gt=0)
    """Seconds that an answer is used for. None: for ever."""
    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Most that is kept; what was not used for longest goes first."""
    near_pictures: bool = True
    """Whether an image search with a picture that was only saved or scaled again is the same question. Turn it off where
    two pictures may differ in nothing but print of less than 14 pixels."""


@dataclass(frozen=True)
class Counts:
    """What happened in this process."""

    calls: int = 0
    """Questions that were asked."""
    hits: int = 0
    """Answers from what was kept."""
    near: int = 0
    """Of these, answers to a nearly equal picture."""
    joined: int = 0
    """Answers shared with somebody who was just asking the same."""
    missing: int = 0
    """Questions that a replay had no answer to."""
    evicted: int = 0
    """Kept answers that had to go for new ones."""
    broken: int = 0
    """Times that the file could not be read or written."""


class Cache:
    """The cache of one folder."""

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
        self._flights: dict[str, _Flight[Any]] = {}

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
        """The answer to a question, kept or from `call`.

        `identity` is what of the tool decides its answers, None if that cannot be told; `ask` makes the question, in a
        thread; `seconds` is the clock that `call` runs under and `price` what it costs unless its result says so.

        Raises:
            ToolFailure: what `call` raised, or that a replay has no answer.
        """
        if identity is None:
            return await self._uncached(tool, call)
        question = await asyncio.to_thread(ask)
        space = hashlib.sha256(identity.encode()).hexdigest()
        key = hashlib.sha256(f"{space} {question.key}".encode("utf-8", "surrogatepass")).hexdigest()
        until = time.monotonic() + seconds
        while True:
            with self._guard:
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight(seconds)
            if not leads:
                landed = await flight.wait()
                if landed is None:  # whoever asked was cut off: the next one asks
                    continue
                if _is_timeout(landed) and flight.seconds < seconds:
                    if flight.seconds < until - time.monotonic():  # more time is left here than was given there
                        continue
                    landed = ToolFailure(
                        "timeout",
                        f"{tool}: no answer in the {flight.seconds:g} s of another caller who asked the same.",
                    )
                self._count(joined=1)
                return _shared(landed)
            began, outcome = time.monotonic(), None
            try:
                outcome = await self._lead(key, space, question, tool, call, read, price)
                return _unpack(outcome)
            except asyncio.CancelledError:
                if time.monotonic() - began >= LATE * seconds:
                    outcome = TimeoutError()
                raise
            except Exception as error:
                outcome = error
                raise
            finally:
                with self._guard:
                    self._flights.pop(key, None)
                flight.land(outcome)

    async def _uncached(self, tool: str, call: Callable[[], Awaitable[R]]) -> R:
        """The answer of a tool that cannot be told from another one with other settings."""
        if self.settings.mode == "replay":
            self._count(missing=1)
            raise ToolFailure(
                "unavailable",
                f"{tool}: its settings cannot be told, so nothing of it was kept, and a replay asks nobody.",
            )
        _say_uncached(tool)
        self._count(calls=1)
        return await call()

    async def _lead(
        self,
        key: str,
        space: str,
        question: Question,
        tool: str,
        call: Callable[[], Awaitable[R]],
        read: type[R],
        price: float,
    ) -> R | Exception:
        """The answer, as the only one in this process who asks."""
        if self.settings.mode == "replay":
            return await self._replayed(key, space, question, tool, read)
        owner = uuid.uuid4().hex
        waited = 0.0
        while True:
            look = await self._try(self.store.look_or_claim, key, space, question, owner)
            if isinstance(look, Found):
                known = _decode(look.value, read)
                if known is not None:
                    self._count(hits=1, near=int(look.near))
                    return known
                look = True  # written by another version: as good as none, and will be overwritten
            if look is True or look is None:
                break
            pause = POLL_SECONDS if waited < 1 else 4 * POLL_SECONDS
            await asyncio.sleep(pause)
            waited += pause
        self._count(calls=1)
        alive = asyncio.create_task(self._renew(key, owner))
        kept = False
        try:
            outcome = await _outcome(call)
            value, ttl = _encode(outcome), math.inf if self.settings.ttl is None else self.settings.ttl
            if value is not None:
                if isinstance(outcome, Exception) or getattr(outcome, "error", None) is not None:
                    ttl = min(ttl, EMPTY_SECONDS)
                paid = float(getattr(outcome, "price", 0.0)) or price
                gone = await self._try(
                    self.store.put, key, space, question, owner, tool=tool, value=value, price=paid, ttl=min(ttl, 1e12)
                )
                kept = True
                self._count(evicted=gone or 0)
            return outcome
        finally:
            alive.cancel()
            if not kept:
                with suppress(RuntimeError):  # the loop is being closed: the claim ends by itself
                    # Without waiting for it: this may be a cancellation.
                    asyncio.get_running_loop().run_in_executor(None, self._release, key, owner)

    async def _replayed(self, key: str, space: str, question: Question, tool: str, read: type[R]) -> R | Exception:
        look = await self._try(self.store.look, key, space, question)
        known = _decode(look.value, read) if isinstance(look, Found) else None
        if known is None:
            self._count(missing=1)
            raise ToolFailure(
                "unavailable",
                f"{tool}: this question is not in the recorded run, and a replay asks nobody "
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
        """A step of the store in a thread; None if the file cannot be used."""
        try:
            return await asyncio.to_thread(step, *arguments, **named)
        except (sqlite3.Error, OSError) as error:
            self._count(broken=1)
            if self.counts.broken == 1:
                warnings.warn(
                    f"tools.cache: {self.store.path} cannot be used ({error}); searches are not kept.", stacklevel=2
                )
            return None

    def _count(self, **more: int) -> None:
        with self._guard:
            self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})

    def stats(self) -> list[ToolStats]:
        """What the folder holds, tool by tool."""
        return self.store.stats()

    def clear(self) -> int:
        """Forget every kept answer; how many there were."""
        return self.store.clear()


@functools.cache
def _say_uncached(tool: str) -> None:
    logger.warning(
        "%s is not cached: a setting of it, such as a lambda or a connection, cannot be told from another; declare the field "
        "with exclude=True if it decides no answer", tool,
    )  # fmt: skip


class _Flight(Generic[R]):
    """A call that is being made, and those who wait for it, each in an event loop of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """The clock that the call runs under."""
        self._guard = threading.Lock()
        self._landed = False
        self._outcome: R | Exception | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def wait(self) -> R | Exception | None:
        """What came of it; None: it was cut off."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._landed:
                return self._outcome
            arrival: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, arrival))
        await arrival
        return self._outcome

    def land(self, outcome: R | Exception | None) -> None:
        """Tell everyone who waits."""
        with self._guard:
            self._landed, self._outcome = True, outcome
        for loop, arrival in self._waiting:
            with suppress(RuntimeError):  # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, arrival)


def _wake(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)


async def _outcome(call: Callable[[], Awaitable[R]]) -> R | Exception:
    """What the call returns; that it found nothing is an outcome too, any other failure is raised."""
    try:
        return await call()
    except ToolFailure as failure:
        if failure.reason != "empty":
            raise
        return failure


def _is_timeout(outcome: object) -> bool:
    return isinstance(outcome, TimeoutError) or (isinstance(outcome, ToolFailure) and outcome.reason == "timeout")


def _unpack(outcome: R | Exception) -> R:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _shared(outcome: R | Exception) -> R:
    """An outcome for somebody who did not pay for it."""
    if isinstance(outcome, ToolFailure):  # a new one: a traceback grows with everyone who raises the same
        raise ToolFailure(outcome.reason, str(outcome), status=outcome.status, wait=outcome.wait)
    if isinstance(outcome, Exception):
        raise outcome.with_traceback(None)
    return outcome.model_copy(update={"cached": True, "price": 0.0})


_EMPTY = b"empty "
_ANSWER = b"answer "


def _encode(outcome: BaseModel | Exception) -> bytes | None:
    """What is kept; None: nothing."""
    if isinstance(outcome, Exception):
        return _EMPTY + str(outcome).encode("utf-8", "surrogatepass")
    error = getattr(outcome, "error", None)
    if error is not None and error.reason != "empty":
        return None
    return _ANSWER + outcome.model_dump_json().encode()


def _decode(value: bytes, read: type[R]) -> R | Exception | None:
    """What was kept; None: it cannot be read."""
    if value.startswith(_EMPTY):
        return ToolFailure("empty", value[len(_EMPTY) :].decode("utf-8", "replace"))
    try:
        kept = read.model_validate_json(value[len(_ANSWER) :])
    except ValidationError:
        return None
    return kept.model_copy(update={"cached": True, "price": 0.0})


_caches: weakref.WeakSet[Cache] = weakref.WeakSet()
_by_settings: OrderedDict[str, Cache] = OrderedDict()
_by_settings_guard = threading.Lock()


def shared(settings: CacheSettings) -> Cache | None:
    """The cache of these settings, one a process. None: it is off."""
    if settings.mode == "off":
        return None
    name = f"{settings.model_dump_json()} {home()}"
    with _by_settings_guard:
        if name not in _by_settings:
            _by_settings[name] = Cache(settings)
        _by_settings.move_to_end(name)
        while len(_by_settings) > KEPT_CACHES:
            _by_settings.popitem(last=False)  # its tools keep it; two caches of one folder share the file
        return _by_settings[name]


def _after_fork() -> None:
    global _by_settings_guard
    _by_settings_guard = threading.Lock()
    for cache in _caches:
        cache._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
