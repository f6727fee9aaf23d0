"""A page reader: an address in, the title and the words of the page out.

Invariant: as with every tool, what goes wrong outside becomes a `Page` with an `error`. A reader that sends the address to a
service of others passes it through `for_others` first: the names of an inner network are nobody's business.
"""

from __future__ import annotations

import socket
import urllib.parse
from abc import abstractmethod
from typing import Any

from pydantic import BaseModel, Field

from lensgraph.tools import guard
from lensgraph.tools.base import MAX_TITLE_CHARS, LensTool, render_error
from lensgraph.tools.cache import key
from lensgraph.tools.results import Page, ToolFailure
from lensgraph.tools.safety.escape import line, neutral
from lensgraph.tools.safety.surrogates import whole

MAX_ADDRESS = 2_000
"""Longest address, in characters."""
_INNER = (".local", ".internal", ".localhost", ".lan", ".home", ".intranet", ".corp")


class PageArgs(BaseModel):
    """Arguments of a page reader."""

    url: str = Field(description="The http or https address of the page.")


class PageReader(LensTool):
    """Read a page. A provider writes `aread`."""

    name: str = "read_page"
    description: str = "Read a page of the web. Returns its title and its text."
    args_schema: Any = PageArgs
    max_chars: int = Field(default=30_000, ge=200)
    """The page is cut here; MMSearch-R1 summarises the first 30,000 characters."""

    @abstractmethod
    async def aread(self, url: str) -> Page:
        """Read; raise `ToolFailure` (or anything) on failure."""

    async def read(self, url: str) -> Page:
        """The whole call outside LangChain: checks, clock, failure as a result."""
        return await self._measure(self._checked(url), Page(url=url[:MAX_ADDRESS]))

    async def _checked(self, url: str) -> Page:
        url = whole(url.strip())
        if not url.lower().startswith(("http://", "https://")) or len(url) > MAX_ADDRESS:
            raise ToolFailure("bad_input", f"{url[:80]!r} is no page of the web; give an http:// or https:// address.")

        async def ask() -> Page:
            page = await self.aread(url)
            if page.error is None and not page.text.strip():
                raise ToolFailure("empty", f"{url[:200]} holds no text.")
            return page.model_copy(
                update={"text": page.text.strip()[: self.max_chars], "title": page.title.strip()[:300]}
            )

        return await self._once(lambda: key.exact(url), ask, Page)

    async def _rendered(self, url: str) -> tuple[str, Page]:
        page = await self.read(url)
        return render_page(page), page


def render_page(page: Page) -> str:
    """A page as text for any LangChain agent."""
    if page.error is not None:
        return render_error(page.error)
    title, url = line(page.title, MAX_TITLE_CHARS), line(page.url, MAX_ADDRESS)
    return f"{title}\n{url}\n\n{neutral(page.text)}".lstrip()


def for_others(url: str) -> str:
    """`url`, if it may be shown to a service of others: a public name or address, without a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, login = (parts.hostname or "").rstrip(".").lower(), parts.username or parts.password
    except ValueError as error:
        raise ToolFailure("refused", f"{url[:80]!r} is not a usable address ({error}).") from None
    if login:
        raise ToolFailure("refused", "An address with a user name is not sent to others; remove it.")
    if ("." not in host and ":" not in host) or host.endswith(_INNER):
        raise ToolFailure("refused", f"{host!r} is a name of an inner network; it is not sent to others.")
    literal = _literal(host)
    if literal is not None and not guard.address_allowed(literal):
        raise ToolFailure("refused", f"{host!r} is not a public address; it is not sent to others.")
    return url


def _literal(host: str) -> str | None:
    """The address that a host stands for without a look-up, in any spelling; None for a name."""
    if ":" in host:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # also 127.1, 0x7f.0.0.1, 017700000001
    except (OSError, UnicodeError):
        return None
