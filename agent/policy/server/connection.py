"""HTTP to one chat-completions server: requests with retries, answers and event streams under a clock and a size cap.

The `openai` client was tried in its place: importing it costs a third more CPU time than a warm start has, it takes 30 MB,
a stream costs over half more CPU time a token, it reads bodies of any size, and it drops llama.cpp's `error:` events.

Invariants: a request ends within `timeout` plus `GRACE`, a body within `timeout`; no body and no line of a stream is longer
than `MAX_BODY`; a key goes to this server only, and no message shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from lensgraph.agent.policy.errors import PolicyError
from lensgraph.agent.policy.server import refusals
from lensgraph.agent.policy.server.completion import event_data
from lensgraph.agent.policy.server.refusals import ErrorStatus, TooLong, Transient
from lensgraph.agent.policy.server.tries import LONGEST_WAIT, Tries
from lensgraph.tools import retry
from lensgraph.tools.safety.redact import without_logins

logger = logging.getLogger(__name__)

LOOK_AGAIN = 1.0
"""Seconds between two tries while a server is starting."""
GRACE = 1.0
"""Seconds beyond httpx's own timeout after which a request is given up, also while it reads endless headers."""
MAX_BODY = 32 * 1024 * 1024
"""Longest answer in bytes: a hundred times the log-probabilities of the longest turn."""
HINTS = {401: "; set policy.api_key_env", 403: "; set policy.api_key_env", 404: "; check policy.model"}
"""Status -> the setting that most likely causes it."""
TURN_TOO_LONG = "; lower policy.max_new_tokens, or serve with a longer context (--max-model-len)"
"""The fix where a server refuses the length of a turn."""


@dataclass(frozen=True)
class Endpoint:
    """A server, and how patiently it is asked. The fields are those of `OpenAICompatiblePolicy`."""

    base_url: str
    """Address, `/v1` included."""
    api_key_env: str | None
    """The environment variable that holds the key."""
    api_key: SecretStr | None
    """The key itself; it goes before `api_key_env`."""
    timeout: float
    """Seconds for one request, and again for its body."""
    start_wait: float
    """Seconds to wait for a server that is starting."""
    concurrency: int
    """Most requests at once, per event loop."""


class _OnLoop:
    """The connections and the request slots of one event loop; a connection cannot be shared between loops."""

    def __init__(self, endpoint: Endpoint) -> None:
        most = endpoint.concurrency
        limits = httpx.Limits(max_connections=most + 1, max_keepalive_connections=most)  # + 1: the list of models
        # No cookies: one that a header cannot repeat would break every later request.
        jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self.client = httpx.AsyncClient(timeout=endpoint.timeout, limits=limits, follow_redirects=False, cookies=jar)
        self.slots = asyncio.Semaphore(most)


class Connection:
    """Requests to one server, from any event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = weakref.WeakKeyDictionary()
        self._answered = False

    @property
    def slots(self) -> asyncio.Semaphore:
        """Held while a turn is asked for; at most `concurrency` at once in this event loop."""
        return self._on_loop().slots

    def key(self) -> str:
        """The key in clear; empty if there is none. Read at every request, so that it may change."""
        given = self.endpoint.api_key
        return given.get_secret_value() if given else os.environ.get(self.endpoint.api_key_env or "", "")

    def url(self, path: str) -> str:
        """The address of a path below `base_url`."""
        return f"{self.endpoint.base_url.rstrip('/')}/{path}"

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next request opens new ones."""
        mine = self._loops.pop(asyncio.get_running_loop(), None)
        if mine is not None:
            await mine.client.aclose()

    @contextlib.asynccontextmanager
    async def open(self, path: str, body: dict[str, Any] | None, tries: Tries) -> AsyncIterator[httpx.Response]:
        """POST a body (None: GET) and yield the successful answer, whose body is still to be read.

        Raises:
            TooLong: the server says that the request does not fit.
            ErrorStatus: another error status, after `tries`.
            PolicyError: no answer, after `tries`.
        """
        url, began = self.url(path), time.monotonic()
        while True:
            response = await self._response(url, body, tries, began)
            if response is None:
                continue
            self._answered = self._answered or response.status_code != 503
            if response.status_code < 300:
                try:
                    yield response
                finally:
                    await response.aclose()
                return
            try:
                refusal = await self.read(response)
            finally:
                await response.aclose()
            await self._after_refusal(url, response, refusal, tries, began)

    async def read(self, response: httpx.Response) -> bytes:
        """The whole body.

        Raises:
            Transient: it did not come in time, or broke off.
            PolicyError: it is longer than `MAX_BODY`.
        """
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > MAX_BODY:
                        raise PolicyError(
                            f"{response.url}: the answer is larger than {MAX_BODY:,} bytes; it is not read"
                        )
                    parts.append(part)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise self._late(response.url) from error
        except httpx.HTTPError as error:
            raise Transient(f"{response.url}: the answer broke off ({type(error).__name__})") from None
        return b"".join(parts)

    async def events(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The data of a stream's events. The clock runs while the server is waited for, not while the reader works."""
        lines, left = _lines(response), self.endpoint.timeout
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    line = await anext(lines)
            except StopAsyncIteration:
                return
            except (httpx.TimeoutException, TimeoutError) as error:
                raise self._late(response.url) from error
            except httpx.HTTPError as error:
                raise Transient(f"{response.url}: the stream broke off ({type(error).__name__})") from None
            left -= time.monotonic() - began
            data = event_data(line)
            if data is not None:
                yield data

    async def _response(
        self, url: str, body: dict[str, Any] | None, tries: Tries, began: float
    ) -> httpx.Response | None:
        """The server's answer. None: there was none, the wait is over, and the request shall be sent again."""
        try:
            return await self._send(url, body)
        except (httpx.TimeoutException, TimeoutError) as error:
            await tries.after(self._late(url), error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # the second: of a redirect
            starting = not self._answered and isinstance(error, httpx.ConnectError)
            if starting and await self._wait_for_start(url, began):
                return None
            hint = "start a server there or set policy.base_url (`python -m lensgraph serve` starts vLLM)"
            said = refusals.first_line(str(error), self.key()) or "no answer"
            broken = f"{url}: {type(error).__name__}: {said}; {hint}"
            # Neither is raised `from error`: it may quote the server's text.
            if starting:
                raise PolicyError(broken) from None
            await tries.after(Transient(broken))
        return None

    async def _after_refusal(
        self, url: str, response: httpx.Response, refusal: bytes, tries: Tries, began: float
    ) -> None:
        """Wait if the request may be sent again after this error status; raise if not."""
        status = response.status_code
        loading = refusals.is_loading(status, refusal)
        if (loading or (status == 503 and not self._answered)) and await self._wait_for_start(url, began):
            return
        if loading:
            raise PolicyError(
                f"{url}: the server is still loading its model after {self.endpoint.start_wait:g} s "
                "(policy.options.start_wait); wait"
            )
        message = f"{url}: {status} {refusals.server_message(refusal, self.key())}"
        if refusals.is_too_long(status, refusal):
            raise TooLong(message)
        hint = TURN_TOO_LONG if status == 400 and b"max_tokens" in refusal else HINTS.get(status, "")
        error = ErrorStatus(message + hint, transient=status in retry.TRIED_AGAIN)
        wait = retry.retry_after(response.headers)
        if not error.transient or (wait or 0.0) > LONGEST_WAIT:
            raise error
        await tries.after(error, wait=wait)

    async def _wait_for_start(self, url: str, began: float) -> bool:
        """Wait a little for a server that is starting; False once `start_wait` is over."""
        start_wait, waited = self.endpoint.start_wait, time.monotonic() - began
        if waited >= start_wait:
            return False
        if waited < LOOK_AGAIN:
            logger.warning(
                "%s is not there yet; waiting up to %g s (policy.options.start_wait)", without_logins(url), start_wait
            )
        await asyncio.sleep(min(LOOK_AGAIN, start_wait - waited))
        return True

    async def _send(self, url: str, body: dict[str, Any] | None) -> httpx.Response:
        client, key = self._on_loop().client, self.key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = client.build_request("GET" if body is None else "POST", url, json=body, headers=headers)
        async with asyncio.timeout(self.endpoint.timeout + GRACE):
            return await client.send(request, stream=True)

    def _late(self, url: object) -> Transient:
        return Transient(f"{url}: no turn within {self.endpoint.timeout:g} s (policy.timeout)")

    def _on_loop(self) -> _OnLoop:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _OnLoop(self.endpoint)
        return self._loops[loop]


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a stream. httpx would also split at characters that are text inside JSON, such as U+2028."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_BODY:
            raise PolicyError(f"{response.url}: a line of the stream is larger than {MAX_BODY:,} bytes; it is not read")
        for line in lines:
            yield line
    if rest:
        yield rest
