"""Our own page reader: the guard fetches, robots.txt decides, trafilatura takes the article out of the page.

Nothing on a page is executed, so a page that is drawn by scripts is empty here (`jina` and `tavily` draw it). Plain text
and PDF are read as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import threading
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import httpx
from pydantic import Field, field_validator

from lensgraph.tools import guard
from lensgraph.tools.documents import readers
from lensgraph.tools.pace import Pace
from lensgraph.tools.pages import markup, robots
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.results import Page, Reason, ToolFailure
from lensgraph.tools.retry import TRIED_AGAIN, pause

_warming = threading.Lock()
_warm = threading.Event()
_SAMPLE = "<html><head><title>Sample</title></head><body><article><p>Some words.</p></article></body></html>"
_CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.I)


class FetchPageReader(PageReader):
    """Address to text, fetched by this program. Needs no key."""

    repeatable: ClassVar[bool] = True
    irrelevant_to_answers: ClassVar[frozenset[str]] = PageReader.irrelevant_to_answers | {
        "retries", "backoff", "requests_per_second",
    }  # fmt: skip

    timeout: float = Field(default=20.0, gt=0)
    """Seconds after which a page counts as failed, its robots.txt and all tries included."""
    respect_robots: bool = True
    """Ask robots.txt. Turn it off only for pages of your own."""
    requests_per_second: float = Field(default=1.0, gt=0)
    """Most requests a second to one host, that for its robots.txt included, over all readers of this process. A Crawl-delay
    that asks for fewer goes first."""
    retries: int = Field(default=1, ge=0)
    """Further tries after an answer that may be temporary (429, 5xx) or a broken connection, within `timeout`."""
    backoff: float = Field(default=0.5, gt=0)
    """Seconds before the second try; doubled for every further one, with jitter. A Retry-After header goes first."""
    max_page_bytes: int = Field(default=5_000_000, ge=1)
    """A larger page is refused while it arrives."""
    allow_networks: list[str] = []
    """Networks that may be read although they are not public, such as `10.0.0.0/8` for an intranet."""
    allow_ports: list[int] = [80, 443]
    """Ports that may be read."""

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ipaddress.ip_network(network)  # its error names the value
        return value

    def prepare(self) -> None:
        """Load trafilatura, which takes the article out of a page."""
        with contextlib.suppress(ToolFailure):  # plain text and PDF are read without it
            warm_up()

    async def aread(self, url: str) -> Page:
        """Ask robots.txt, wait for a turn, fetch, extract."""
        url = urllib.parse.urldefrag(url).url
        deadline = time.monotonic() + self.timeout

        async def may_ask(where: str) -> None:
            await self._may_ask(where, deadline)

        found = await self._with_tries(url, may_ask, deadline)
        title, text = await asyncio.to_thread(extract, found)
        return Page(url=url, title=title, text=text)

    async def _may_ask(self, url: str, deadline: float) -> None:
        """Before every request, redirects included: ask the host's rules and wait for its pace."""
        delay = 0.0

        async def in_turn(where: str) -> None:
            await self._turn(where, 0.0, deadline)

        async def rules(where: str) -> bytes:
            return (await self._get(where, robots.MAX_BYTES, self.timeout / 2, in_turn)).body

        if self.respect_robots:
            verdict = await robots.ask(url, rules)
            if not verdict.allowed:
                raise ToolFailure(verdict.reason, f"{url[:200]} is not read: {verdict.why}.")
            delay = verdict.delay
        await self._turn(url, delay, deadline)

    async def _turn(self, url: str, delay: float, deadline: float) -> None:
        """Wait for the pace of the address's host; `delay` is the least time between two requests that it asks for."""
        gap = max(delay, 1 / self.requests_per_second)
        await _pace(url).turn(1 / gap, max(0.0, deadline - time.monotonic()))

    async def _with_tries(self, url: str, before: Callable[[str], Awaitable[None]], deadline: float) -> guard.Fetched:
        attempt, last = 0, url

        async def noted(where: str) -> None:
            nonlocal last
            last = where
            await before(where)

        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                return await self._get(url, self.max_page_bytes, left, noted)
            except ToolFailure as failure:
                wait = pause(attempt, self.backoff) if failure.wait is None else failure.wait
                if failure.status in TRIED_AGAIN and failure.wait:
                    _pace(last).hold(failure.wait)  # a redirect may have led to another host
                broken = isinstance(failure.__cause__, httpx.TransportError) and failure.reason == "unavailable"
                temporary = broken or failure.status in TRIED_AGAIN
                if not temporary or attempt >= self.retries or wait > deadline - time.monotonic():
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def _get(
        self, url: str, max_bytes: int, timeout: float, before: Callable[[str], Awaitable[None]] | None = None
    ) -> guard.Fetched:
        policy = guard.FetchPolicy(
            ports=frozenset(self.allow_ports),
            networks=tuple(ipaddress.ip_network(network) for network in self.allow_networks),
        )
        return await guard.get(url, max_bytes=max_bytes, timeout=timeout, policy=policy, before=before)


def _pace(url: str) -> Pace:
    """The pace of the address's host."""
    return Pace.of(f"host {urllib.parse.urlsplit(url).netloc.lower()}")


def warm_up() -> Any:
    """The module trafilatura with its tables loaded, by one thread; others that need it meanwhile wait."""
    try:
        import trafilatura  # 1 s to import: only programs that read pages pay for it
    except ImportError as error:
        raise ToolFailure(
            "unavailable", "page reading needs trafilatura; run pip install '.[live]' in a clone of LensGraph."
        ) from error
    if not _warm.is_set():
        with _warming:
            if not _warm.is_set():
                trafilatura.bare_extraction(_SAMPLE, with_metadata=True, include_comments=False)
                _warm.set()
    return trafilatura


def extract(found: guard.Fetched) -> tuple[str, str]:
    """Title and words of a page.

    Raises:
        ToolFailure: `empty`, `malformed` for a body that is no page, or `refused` for a document over its caps.
    """
    if not found.body.strip():
        raise ToolFailure("empty", f"{found.url[:200]} is empty.")
    if found.kind not in guard.PAGE:
        raise ToolFailure("malformed", f"{found.url[:200]} holds {found.kind} data and is no page.")
    if found.kind == "pdf":
        return _document("page.pdf", found)
    if found.kind in ("text", "json"):
        return _document("page.txt", found)
    page, reader = markup.limited(_decoded(found)), warm_up()
    document = reader.bare_extraction(page, url=found.url, with_metadata=True, include_comments=False)
    text = getattr(document, "text", None) or ""
    if text.strip():
        return getattr(document, "title", None) or "", text
    # A page without an article, such as a list of links: all its words.
    tree = reader.load_html(page)
    title, text = markup.all_words(tree) if tree is not None else ("", "")
    if not text.strip():
        raise ToolFailure("empty", f"{found.url[:200]} holds no text.")
    return title, text


def _decoded(found: guard.Fetched) -> str | bytes:
    """Text if the server declares an encoding, which goes before the page's own declaration; else bytes."""
    said = _CHARSET.search(found.content_type)
    if said is None:
        return found.body
    try:
        return found.body.decode(said[1], "replace")
    except LookupError:
        return found.body


def _document(kind: str, found: guard.Fetched) -> tuple[str, str]:
    try:
        document = readers.read(kind, found.body)
    except readers.Unreadable as error:
        reason: Reason = "empty" if "no text" in str(error) else "malformed"
        if isinstance(error, readers.TooMuch):
            reason = "refused"
        raise ToolFailure(reason, f"{found.url[:200]}: {error}.") from error
    return document.title, document.text
