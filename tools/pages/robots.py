"""robots.txt: may this program read this page, and how often may it ask this host? (RFC 9309)

A file that does not exist (4xx) allows everything; one that cannot be fetched (5xx, no answer) allows nothing until it can.
It is read once an hour for each host and shared by all readers of the process; callers that ask meanwhile wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from lensgraph.tools import guard
from lensgraph.tools.results import Reason, ToolFailure

MAX_BYTES = 1_000_000
"""Largest robots.txt; the standard asks for at least 500 KiB."""
KEPT_SECONDS = 3600.0
"""Seconds that an answer holds; the standard allows a day."""
KEPT_UNREACHABLE = 60.0
"""Seconds that a host that did not answer is left alone."""
KEPT_HOSTS = 2_000


class Rules(Protocol):
    """A parsed robots.txt."""

    def can_fetch(self, url: str, user_agent: str) -> bool:
        """Whether the page may be read."""

    def crawl_delay(self, user_agent: str) -> float | None:
        """Seconds between two requests. None: it does not say."""


@dataclass(frozen=True)
class Verdict:
    """The answer of robots.txt about one address."""

    allowed: bool
    """True: the page may be read."""
    delay: float
    """Least seconds between two requests to this host; 0: it does not say."""
    why: str
    """The ground of a refusal, for the error. Empty if allowed."""
    reason: Reason = "refused"
    """Reason of the failure: `refused` if the rules forbid the page, else that of the failed request for them."""


@dataclass(frozen=True)
class _Known:
    rules: Rules | None
    """None: everything is allowed."""
    failure: ToolFailure | None
    """The failure to get the file. None: it was read, or does not exist."""
    until: float


_known: OrderedDict[str, _Known] = OrderedDict()
_reading: dict[str, Future[_Known | None]] = {}
"""Origins whose file is being read now; the outcome is None if the reading was given up."""
_lock = threading.Lock()


async def ask(url: str, get: Callable[[str], Awaitable[bytes]]) -> Verdict:
    """The verdict of the robots.txt of the address's host; `get` fetches it and raises `ToolFailure` with the status.

    Raises:
        ToolFailure: the guard refused the host.
    """
    parts = urllib.parse.urlsplit(url)
    origin = f"{parts.scheme.lower()}://{parts.netloc.lower()}"
    known = await _of(origin, get)
    if known.failure is not None:
        said = f"its robots.txt cannot be read ({known.failure.status or known.failure.reason})"
        return Verdict(False, 0.0, said, known.failure.reason)
    if known.rules is None:
        return Verdict(True, 0.0, "")
    delay = known.rules.crawl_delay(guard.USER_AGENT) or 0.0
    allowed = known.rules.can_fetch(url, guard.USER_AGENT)
    return Verdict(allowed, float(delay), "" if allowed else "its robots.txt does not allow it")


async def _of(origin: str, get: Callable[[str], Awaitable[bytes]]) -> _Known:
    """The rules of an origin, read by the first who asks; all others wait for it, whatever their event loops."""
    while True:
        with _lock:
            known = _known.get(origin)
            if known is not None and known.until >= time.monotonic():
                return known
            under_way = _reading.get(origin)
            if under_way is None:
                mine: Future[_Known | None] = Future()
                mine.set_running_or_notify_cancel()  # one who stops waiting must not cancel it for the others
                _reading[origin] = mine
        if under_way is None:
            return await _read_for_all(origin, get, mine)
        found = await asyncio.wrap_future(under_way)
        if found is not None:
            return found


async def _read_for_all(origin: str, get: Callable[[str], Awaitable[bytes]], outcome: Future[_Known | None]) -> _Known:
    found: _Known | None = None
    try:
        found = await _read(origin, get)
        return found
    finally:
        with _lock:
            del _reading[origin]
            if found is not None:
                _known[origin] = found
                _known.move_to_end(origin)
            while len(_known) > KEPT_HOSTS:
                _known.popitem(last=False)
        outcome.set_result(found)


def forget() -> None:
    """Read every robots.txt anew."""
    with _lock:
        _known.clear()


async def _read(origin: str, get: Callable[[str], Awaitable[bytes]]) -> _Known:
    now = time.monotonic()
    try:
        body = await get(f"{origin}/robots.txt")
    except ToolFailure as failure:
        # 429 is "not now", which is no leave to go on.
        if failure.status is not None and 400 <= failure.status < 500 and failure.status != 429:
            return _Known(None, None, now + KEPT_SECONDS)
        if failure.reason == "refused":  # the guard of this reader; another one may reach other networks
            raise
        # A clock that ran out, or a pace that was too slow for it, was the caller's own: the next one may have more time.
        own = failure.status is None and failure.reason in ("timeout", "rate_limited")
        kept = 0.0 if own else KEPT_UNREACHABLE
        return _Known(None, failure, now + kept)
    return _Known(_parse(body), None, now + KEPT_SECONDS)


def _parse(body: bytes) -> Rules:
    try:
        from protego import Protego  # only programs that fetch pages need it
    except ImportError as error:
        raise ToolFailure(
            "unavailable", "robots rules need protego; run pip install '.[live]' in a clone of LensGraph."
        ) from error
    rules: Any = Protego.parse(body.decode("utf-8", "replace"))
    found: Rules = rules
    return found
