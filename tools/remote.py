"""The base of every provider on the network: a key that stays secret, a pace, another try, and failures with a reason.

Invariants: a key never stands in an error, a log line, a trace or a result, also where a service wants it in the address
(httpx logs addresses); whatever a service answers becomes parsed JSON (or text) or a `ToolFailure` whose reason says
whose fault it is; a body is counted while it arrives and dropped when it is too large. Only addresses that the
configuration names are contacted, and redirects are not followed.

A provider declares how its key travels and calls `request`. An SDK that takes an httpx client is given `client()`, and
its requests keep to the same rules.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import httpx
from pydantic import Field, SecretStr, model_validator

from lensgraph.tools.base import LensTool, _Result
from lensgraph.tools.cache import key as cache_key
from lensgraph.tools.pace import Pace
from lensgraph.tools.results import Reason, ToolError, ToolFailure
from lensgraph.tools.retry import TRIED_AGAIN, pause, retry_after
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.redact import HIDDEN, blot, blot_bytes, blot_tree

SHORTEST_KEY = 8
"""Keys of this length and more are also blotted out of what a service answers; a shorter one may be any word."""


class Remote(LensTool):
    """A tool behind an HTTP service. A provider calls `request` and reads what comes back."""

    service: ClassVar[str]
    """Name of the service in messages."""
    key_variable: ClassVar[str] = ""
    """Environment variable that holds the key; empty: the service needs none."""
    key_optional: ClassVar[bool] = False
    """True: the service also answers without a key."""
    key_header: ClassVar[str] = ""
    """Header that carries the key; empty: it does not travel in a header of ours."""
    key_prefix: ClassVar[str] = ""
    """Text before the key in that header, such as `Bearer `."""
    key_parameter: ClassVar[str] = ""
    """Query parameter that carries the key, for a service that knows no header."""

    irrelevant_to_answers: ClassVar[frozenset[str]] = LensTool.irrelevant_to_answers | {
        "api_key", "retries", "backoff", "requests_per_second", "max_body_bytes",
    }  # fmt: skip

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
        if self.key_variable and not self.key and not self.key_optional:
            # Not at the first search: a run that cannot search should not start.
            raise ValueError(f"{self.service} needs a key: set {self.key_variable}, or search offline with use: local.")
        return self

    @property
    def key(self) -> str:
        """The key in clear, for a request; empty if there is none."""
        return self.api_key.get_secret_value().strip() if self.api_key else ""

    @property
    def _blotted(self) -> str:
        """The key, if it is long enough to be looked for in what a service answers; else nothing."""
        return self.key if len(self.key) >= SHORTEST_KEY else ""

    def without_key(self, text: str) -> str:
        """The text of a service without the key."""
        return blot(text, self._blotted)

    def client(self, base_url: str = "") -> Client:
        """An httpx client that keeps to this tool's key, pace, tries and sizes for one call; close it after use."""
        return Client(self, base_url)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        as_text: bool = False,
    ) -> Any:
        """One request with its further tries; the parsed JSON, or the text with `as_text`.

        Raises:
            ToolFailure: `unavailable` (no connection, 5xx, a refused key), `rate_limited`, `timeout`, `bad_input` (any other
                4xx) or `malformed` (a body that is too large or not JSON).
        """
        try:
            async with self.client() as client:
                answer = await client.request(
                    method, url, params=params, headers=headers, json=json, data=data, content=content
                )
        except httpx.HTTPError as error:
            raise self.failure_of(error) from None  # the error's own text may hold the address
        except httpx.InvalidURL:
            raise ToolFailure(
                "bad_input",
                f"{self.service}: its configured address, or one that it sends to, is not usable; give http(s)://...",
            ) from None
        return self._read(answer, as_text)

    def failure_of(self, error: httpx.HTTPError) -> ToolFailure:
        """The failure that an httpx error means, without its address."""
        if isinstance(error, httpx.TimeoutException):
            return ToolFailure("timeout", f"{self.service}: no answer in {self.timeout:g} s.")
        if isinstance(error, httpx.DecodingError):
            return ToolFailure("malformed", f"{self.service}'s answer cannot be decompressed.")
        return ToolFailure("unavailable", f"{self.service} cannot be reached ({type(error).__name__}).")

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """Reason and message of a status of 400 and more, where this service differs from the usual. `body` holds no key."""
        return None

    def asked_to_wait(self, answer: httpx.Response) -> float | None:
        """Seconds that a refusing service asks to be left alone. None: it does not say."""
        return retry_after(answer.headers)

    async def _once(
        self, ask: Callable[[], cache_key.Question], call: Callable[[], Awaitable[_Result]], read: type[_Result]
    ) -> _Result:
        try:
            return await super()._once(ask, call, read)
        except ToolFailure as failure:  # its message may be put together from pieces of an answer
            failure.args = (self.without_key(str(failure)),)
            raise

    def _to_error(self, error: Exception) -> ToolError:
        found = super()._to_error(error)
        return found.model_copy(update={"message": self.without_key(found.message)})

    def _read(self, answer: httpx.Response, as_text: bool) -> Any:
        status, text = answer.status_code, self.without_key(answer.text)
        if status >= 300:
            reason, message = self._meaning(answer, text)
            raise ToolFailure(reason, message, status=status, wait=self.asked_to_wait(answer))
        if as_text:
            return text
        try:
            return blot_tree(read_json(text), self._blotted)
        except ValueError:
            raise ToolFailure("malformed", f"{self.service}'s answer is not JSON.") from None

    def _meaning(self, answer: httpx.Response, text: str) -> tuple[Reason, str]:
        status = answer.status_code
        special = self.refusal(status, text)
        if special is not None:
            return special
        if status < 400:
            return "unavailable", f"{self.service} answers with a redirect ({status}), which is not followed."
        if status in (401, 402, 403):
            hint = f"; check {self.key_variable}" if self.key_variable else ""
            return "unavailable", f"{self.service} does not accept the key or its plan ({status}){hint}."
        if status == 429:
            wait = self.asked_to_wait(answer)
            again = "wait" if wait is None else f"it asks to wait {wait:.0f} s"
            return "rate_limited", f"{self.service}: too many requests or the plan is used up; {again}."
        if status >= 500:
            return "unavailable", f"{self.service} answers {status}."
        said = " ".join(blot(text[:2000], self.key).split())[:160]
        return "bad_input", f"{self.service} refuses the request ({status}): {said}"


class Client(httpx.AsyncClient):
    """Sends the requests of one call of a tool: with its key, at its pace, and again where that may help.

    A client for each call: its connections belong to one event loop, and a tool may be called from several."""

    def __init__(self, tool: Remote, base_url: str = "") -> None:
        super().__init__(
            base_url=base_url,
            timeout=tool.timeout,
            verify=_tls(),
            follow_redirects=False,
            # Identity: a compressed body can grow a thousandfold in one step.
            headers={"Accept-Encoding": "identity"},
        )
        self._tool = tool
        self._deadline = time.monotonic() + tool.timeout

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        auth: Any = httpx.USE_CLIENT_DEFAULT,
        follow_redirects: Any = httpx.USE_CLIENT_DEFAULT,
    ) -> httpx.Response:
        """Send until there is an answer worth reading, the tries are used up, or the next one would come too late."""
        _put_key(request, self._tool)
        attempt = 0
        quiet = self._quiet(request.url)
        while True:
            await self._leave_alone(quiet)
            await self._take_turn()
            try:
                answer = await super().send(request, stream=True, auth=auth, follow_redirects=False)
                try:
                    whole = await self._whole(answer)
                finally:
                    await answer.aclose()
                if whole.status_code in TRIED_AGAIN and (asked := self._tool.asked_to_wait(whole)):
                    quiet.hold(asked)
                wait = self._before_next(whole, attempt)
                if wait is None:
                    return whole
            except (httpx.TimeoutException, httpx.UnsupportedProtocol):
                raise  # no time is left, or no try can help
            except httpx.TransportError:
                wait = pause(attempt, self._tool.backoff)
                if attempt >= self._tool.retries or wait > self._left():
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _quiet(self, url: httpx.URL) -> Pace:
        """The pause that the service asked of all who have this key; shared by all tools of the process."""
        key = hashlib.sha256(self._tool.key.encode()).hexdigest()[:16]
        return Pace.of(f"{self._tool.service} at {url.host}:{url.port} with {key}")

    async def _leave_alone(self, quiet: Pace) -> None:
        while (wait := quiet.held()) > 0:
            if wait > self._left():
                said = f"{self._tool.service} asked another caller to wait, {wait:.0f} s more from now."
                raise ToolFailure("rate_limited", said, wait=wait)
            await asyncio.sleep(wait)

    async def _take_turn(self) -> None:
        tool = self._tool
        if tool.requests_per_second is not None:
            try:
                await Pace.of(tool.service).turn(tool.requests_per_second, max(0.0, self._left()))
            except ToolFailure as failure:
                raise ToolFailure(failure.reason, f"{tool.service}: {failure} Raise requests_per_second.") from None

    def _before_next(self, answer: httpx.Response, attempt: int) -> float | None:
        """Seconds to wait before another try; None: this answer is the one to read."""
        if answer.status_code not in TRIED_AGAIN or attempt >= self._tool.retries:
            return None
        asked = self._tool.asked_to_wait(answer)
        wait = pause(attempt, self._tool.backoff) if asked is None else asked
        return None if wait > self._left() else wait

    async def _whole(self, answer: httpx.Response) -> httpx.Response:
        """The same answer with its body read, under the cap."""
        tool = self._tool
        encoding = answer.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise ToolFailure("malformed", f"{tool.service} compresses its answer ({encoding}) although asked not to.")
        too_large = ToolFailure(
            "malformed",
            f"{tool.service}'s answer is larger than {tool.max_body_bytes:,} bytes (max_body_bytes); it is not read.",
        )
        declared = answer.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > tool.max_body_bytes:
            raise too_large
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > tool.max_body_bytes:
                raise too_large
        framing = {"content-encoding", "content-length", "transfer-encoding"}
        kept = [(name, value) for name, value in answer.headers.items() if name not in framing]
        return httpx.Response(answer.status_code, headers=kept, content=self._without_key(body), request=answer.request)

    def _without_key(self, body: bytearray) -> bytes:
        """A service may repeat the key it was given, in an error or in the address of its next page."""
        return blot_bytes(bytes(body), self._tool._blotted)


class _SealedURL(httpx.URL):
    """An address with a key in its query that shows without the key wherever it is written: httpx logs its requests, and a hook
    or a tracer may. (A filter on httpx's logger would cover its log alone, and had to be told every key.)"""

    def __init__(self, url: httpx.URL, key: str) -> None:
        super().__init__(url)
        shown = [(name, HIDDEN if key in value else value) for name, value in url.params.multi_items()]
        self._shown = str(url.copy_with(params=shown))

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"URL({self._shown!r})"


def _put_key(request: httpx.Request, tool: Remote) -> None:
    if not tool.key:
        return
    if tool.key_header:
        request.headers[tool.key_header] = tool.key_prefix + tool.key
    if tool.key_parameter:
        request.url = request.url.copy_merge_params({tool.key_parameter: tool.key})
    if any(tool.key in value for value in request.url.params.values()):
        request.url = _SealedURL(request.url, tool.key)


@functools.cache
def _tls() -> ssl.SSLContext:
    """The TLS context, made once: reading the certificates takes longer than many a request."""
    return httpx.create_ssl_context()
