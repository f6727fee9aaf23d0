"""What every provider on the network shares: a key that stays secret, a pace, another try, and failures with a reason.

Invariants: a key never stands in an error, a log line or a result; whatever a service answers becomes parsed JSON (or text)
or a `ToolFailure` whose reason says whose fault it is. Only addresses that the configuration names are contacted, and
redirects are not followed.
"""

from __future__ import annotations

import asyncio
import email.utils
import json as json_
import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx
from pydantic import Field, SecretStr, model_validator

from tools.base import LensTool
from tools.results import ToolFailure

TRIED_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


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
            return cls._all.setdefault(name, cls())

    async def turn(self, per_second: float) -> None:
        """Wait for the next free slot at `per_second` requests a second."""
        with self._guard:
            now = time.monotonic()
            slot = max(now, self._free_at)
            self._free_at = slot + 1 / per_second
        if slot > now:
            await asyncio.sleep(slot - now)


class Remote(LensTool):
    """A tool behind an HTTP service. A provider calls `request` and reads what comes back."""

    service: ClassVar[str]
    """What the service is called in messages."""
    key_variable: ClassVar[str] = ""
    """Environment variable that holds the key; empty: the service needs none."""

    api_key: SecretStr | None = None
    """Key of the service. None: taken from the environment."""
    retries: int = Field(default=2, ge=0)
    """Further tries after an answer that may be temporary (429, 5xx, a broken connection), within `timeout`."""
    backoff: float = Field(default=0.5, gt=0)
    """Seconds before the second try; doubled for every further one, with jitter. A Retry-After header goes first."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Client-side rate limit, shared by all tools of the service in this process. None: no limit."""
    max_body_bytes: int = Field(default=4_000_000, ge=1)
    """A larger answer is refused while it arrives."""

    @model_validator(mode="after")
    def _find_key(self) -> Remote:
        if self.key_variable and self.api_key is None:
            self.api_key = SecretStr(os.environ.get(self.key_variable, ""))
        if self.key_variable and not self.key:
            # Not at the first search: a run that cannot search should not start.
            raise ValueError(f"{self.service} needs a key: set {self.key_variable}, or search offline with use: local.")
        return self

    @property
    def key(self) -> str:
        """The key in clear, for a request; empty if there is none."""
        return self.api_key.get_secret_value().strip() if self.api_key else ""

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        as_text: bool = False,
    ) -> Any:
        """One request with its further tries; the parsed JSON, or the text with `as_text`.

        Raises:
            ToolFailure: `unavailable` (no connection, 5xx, a refused key), `rate_limited`, `timeout`, `bad_input` (any other
                4xx) or `malformed` (a body that is too large or not JSON).
        """
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            if self.requests_per_second is not None:
                await Pace.of(self.service).turn(self.requests_per_second)
            try:
                async with (
                    httpx.AsyncClient(timeout=self.timeout, follow_redirects=False) as client,
                    client.stream(
                        method, url, params=params, headers=dict(headers or {}), json=json, content=content
                    ) as answer,
                ):
                    if answer.status_code in TRIED_AGAIN and not last:
                        wait = retry_after(answer.headers.get("retry-after"))
                        await asyncio.sleep(self._pause(attempt) if wait is None else wait)
                        continue
                    body = await self._body(answer)
                    return self._read(answer.status_code, body, as_text)
            except httpx.TimeoutException as error:
                raise ToolFailure("timeout", f"{self.service}: no answer in {self.timeout:g} s.") from error
            except httpx.DecodingError as error:
                raise ToolFailure("malformed", f"{self.service}'s answer cannot be decompressed.") from error
            except httpx.HTTPError as error:
                if last:
                    # the error's own text may hold the address, and with it the key
                    raise ToolFailure(
                        "unavailable", f"{self.service} cannot be reached ({type(error).__name__})."
                    ) from None
                await asyncio.sleep(self._pause(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int) -> float:
        return self.backoff * 2**attempt * random.uniform(0.75, 1.25)

    async def _body(self, answer: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in answer.aiter_bytes():
            size += len(part)
            if size > self.max_body_bytes:
                raise ToolFailure(
                    "malformed",
                    f"{self.service}'s answer is larger than {self.max_body_bytes:,} bytes; it is not read.",
                )
            parts.append(part)
        return b"".join(parts)

    def _read(self, status: int, body: bytes, as_text: bool) -> Any:
        if status in (401, 403):
            hint = f"; check {self.key_variable}" if self.key_variable else ""
            raise ToolFailure("unavailable", f"{self.service} does not accept the key or its plan ({status}){hint}.")
        if status == 429:
            raise ToolFailure("rate_limited", f"{self.service}: too many requests or the plan is used up; wait.")
        if status >= 500:
            raise ToolFailure("unavailable", f"{self.service} answers {status}.")
        if status >= 400:
            raise ToolFailure("bad_input", f"{self.service} refuses the request ({status}): {self._hushed(body)}")
        if status >= 300:
            raise ToolFailure(
                "unavailable", f"{self.service} answers with a redirect ({status}), which is not followed."
            )
        text = body.decode("utf-8", "replace")
        if as_text:
            return text
        try:
            return json_.loads(text)
        except ValueError:
            raise ToolFailure("malformed", f"{self.service}'s answer is not JSON.") from None

    def _hushed(self, body: bytes) -> str:
        """The beginning of an error body on one line, without the key."""
        text = " ".join(body[:2000].decode("utf-8", "replace").split())
        return (text.replace(self.key, "***") if self.key else text)[:160]


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Seconds to wait that a Retry-After header asks for: a number, or a date. None: it asks for nothing readable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))
