"""One address fetched: checked at connection time, redirects included, under a size cap and one timeout.

Invariant: the connection goes to the very address that was checked (`transport`), so a name that changes its address between
check and connection gains nothing. Environment proxies are ignored, because a proxy would resolve the name itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensgraph.tools.guard.addresses import PUBLIC_WEB, FetchPolicy, Refused
from lensgraph.tools.guard.bodies import ENCODINGS, Kind, Unpacker, sniff
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.retry import retry_after
from lensgraph.tools.safety.one_line import one_line

if TYPE_CHECKING:
    import httpx

MAX_FETCH_BYTES = 20 * 1024 * 1024
"""Largest body fetched from the web."""
MAX_REDIRECTS = 5
USER_AGENT = "lensgraph"
"""The name that the program tells servers; robots rules are looked up under this name."""

_NO_SERVER = re.compile(r"https?://([^/?#]*@)?(:\d*)?([/?#]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """A body that was fetched."""

    url: str
    """Its address, after redirects."""
    body: bytes
    """The bytes, unpacked."""
    kind: Kind
    """The kind of body, told from its own first bytes."""
    content_type: str
    """The Content-Type that the server declares. Empty: it declares none."""


async def fetch(
    url: str,
    *,
    max_bytes: int = MAX_FETCH_BYTES,
    timeout: float = 15.0,
    policy: FetchPolicy = PUBLIC_WEB,
    want: Collection[Kind] | None = None,
    before: Callable[[str], Awaitable[None]] | None = None,
    user_agent: str = USER_AGENT,
) -> bytes:
    """The body at `url`; arguments and errors as in `get`."""
    found = await get(
        url, max_bytes=max_bytes, timeout=timeout, policy=policy, want=want, before=before, user_agent=user_agent
    )
    return found.body


async def get(
    url: str,
    *,
    max_bytes: int = MAX_FETCH_BYTES,
    timeout: float = 15.0,
    policy: FetchPolicy = PUBLIC_WEB,
    want: Collection[Kind] | None = None,
    before: Callable[[str], Awaitable[None]] | None = None,
    user_agent: str = USER_AGENT,
) -> Fetched:
    """Fetch `url` and tell the kind of its body.

    Args:
        max_bytes: cap on the unpacked body.
        timeout: seconds for the whole call, redirects included.
        policy: where a connection may go.
        want: accepted kinds of body, such as `PAGE`; others are refused, whatever the server calls them. None: any.
        before: awaited with every address before it is asked for, redirects too; an exception that it raises ends the call.
        user_agent: the name sent to the server.

    Raises:
        Refused: the address is not allowed (no connection was made to it), or the body is too large or of another kind.
        ToolFailure: any other reason, with the server's status where it answered.
    """
    if not isinstance(url, str):
        raise Refused(f"an address cannot be a {type(url).__name__}; give http://host/...")
    if _NO_SERVER.match(url):
        raise Refused(f"{url[:200]}: names no server; give an address such as https://example.org/a.png.", "refused")
    import httpx  # 0.15 s to import: only programs that fetch pay for it

    from lensgraph.tools.guard.transport import CheckedTransport  # imports httpx as well

    async def announce(request: httpx.Request) -> None:
        if before is not None:
            await before(str(request.url))

    client = httpx.AsyncClient(
        transport=CheckedTransport(policy),
        event_hooks={"request": [announce]},
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
        timeout=timeout,
        headers={"User-Agent": user_agent, "Accept-Encoding": ENCODINGS},
    )
    try:
        async with asyncio.timeout(timeout), client, client.stream("GET", url) as response:
            found = await _read(response, max_bytes)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ToolFailure("timeout", f"{url[:200]}: no complete answer in {timeout:g} s.") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:  # UnicodeError: from idna
        raise Refused(
            f"{url[:200]}: not a usable address ({one_line(error, 120)}); give http:// or https://.", "refused"
        ) from error
    except httpx.TooManyRedirects as error:
        raise Refused(f"{url[:200]}: more than {MAX_REDIRECTS} redirects.", "refused") from error
    except httpx.HTTPError as error:
        raise ToolFailure("unavailable", f"{url[:200]}: {one_line(error, 120)}.") from error
    if want is not None and found.kind not in want:
        raise Refused(f"{found.url[:200]}: holds {found.kind} data, and {' or '.join(want)} was wanted.", "refused")
    return found


async def _read(response: httpx.Response, max_bytes: int) -> Fetched:
    url = str(response.url)
    shown = url[:200]
    status, wait = response.status_code, retry_after(response.headers)
    if status == 429:
        raise ToolFailure("rate_limited", f"{shown}: the server asks to slow down (429).", status=status, wait=wait)
    if not 200 <= status < 300:
        raise ToolFailure("unavailable", f"{shown}: the server answers {status}.", status=status, wait=wait)
    unpacker = Unpacker(shown, response.headers.get("content-encoding", ""), max_bytes)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise Refused(f"{shown}: body is over the cap of {max_bytes:,} bytes; give a smaller file.", "refused")
    async for chunk in response.aiter_raw():
        unpacker.feed(chunk)
    body, content_type = unpacker.close(), response.headers.get("content-type", "")
    return Fetched(url=url, body=body, kind=sniff(body, content_type), content_type=content_type[:200])
