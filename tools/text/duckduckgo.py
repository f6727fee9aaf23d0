"""Text search through DuckDuckGo's page for browsers without JavaScript. Needs no key.

There is no documented interface for web results: this reads the page a person would get, so its layout may change (then
the result says `malformed`, never an empty list), and the service shows a challenge to callers that it takes for machines
(then `rate_limited`; the block lasts, so the search is not tried again). For steady use take SearXNG, Brave or Tavily.

Not through langchain-community: its wrapper drives `ddgs` 9, which by default (`backend="auto"`) sends the query to seven
and more other engines and keeps to results of the last year, picks a random browser to pose as, waits a fixed 5 s, and turns
every status but 200 into "No results found.", so that a refusal cannot be told from an empty result and no Retry-After
can be kept. It still plugs in by its import path.

Checked against what searx/engines/duckduckgo.py and ddgs/engines/duckduckgo.py send and read: a form with `q`, `b`, `kl`,
results in `result__a` and `result__snippet`, links wrapped as `/l/?uddg=...`, advertisements behind `/y.js`, the challenge
in `anomaly-modal` or `challenge-form`.
"""

from __future__ import annotations

import urllib.parse
from html.parser import HTMLParser
from typing import ClassVar, Literal

from pydantic import Field

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, Reason, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain

LONGEST_QUERY = 499
"""Characters that the service accepts."""
_CHALLENGE = ("anomaly-modal", "challenge-form", "duckduckgo.com/anomaly")
_NOTHING = ("no-results", "No results found for")


class DuckDuckGoTextSearch(TextSearch, Remote):
    """Words to pages, read from DuckDuckGo's own result page. Needs no key."""

    service: ClassVar[str] = "DuckDuckGo"
    repeatable: ClassVar[bool] = True

    region: str = "wt-wt"
    """Region to search from, such as `us-en`; `wt-wt` is no region."""
    time_range: Literal["d", "w", "m", "y"] | None = None
    """Only pages of the last day, week, month or year. None: any age."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    base_url: str = "https://html.duckduckgo.com"
    """Address of the page that lists results."""
    user_agent: str = "lensgraph (search on behalf of a person)"
    """Name of the program in its requests. It does not pose as a browser."""
    requests_per_second: float | None = Field(default=0.5, gt=0)
    """Client-side rate limit: faster callers are taken for machines."""

    async def asearch(self, query: str) -> SearchResult:
        """Send the form and read the page."""
        form = {"q": query[:LONGEST_QUERY], "b": "", "kl": self.region}
        if self.time_range:
            form["df"] = self.time_range
        page = await self.request(
            "POST",
            f"{self.base_url.rstrip('/')}/html/",
            data=form,
            headers={"User-Agent": self.user_agent},
            as_text=True,
        )
        reader = _ResultPage()
        reader.feed(page)
        reader.close()
        if not reader.hits:
            if any(mark in page for mark in _CHALLENGE):
                raise ToolFailure(
                    "rate_limited", "DuckDuckGo asks whether a person is searching; wait, or use another provider."
                )
            if not any(mark in page for mark in _NOTHING):
                raise ToolFailure("malformed", "DuckDuckGo's page cannot be read; its layout may have changed.")
        hits = [hit.model_copy(update={"snippet": hit.snippet[: self.snippet_chars]}) for hit in reader.hits[: self.k]]
        return SearchResult(kind="text", query=query, hits=hits)

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """A 403 is a block, too."""
        if status == 403:
            return "rate_limited", "DuckDuckGo turns this machine away (403); wait, or use another provider."
        return None


class _ResultPage(HTMLParser):
    """Collects links of class `result__a` with the `result__snippet` that follows each."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.hits: list[Hit] = []
        self._into: Literal["title", "snippet"] | None = None
        self._url = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start to collect at a title or a snippet."""
        if tag not in ("a", "div", "td"):
            return
        found = dict(attrs)
        classes = (found.get("class") or "").split()
        if tag == "a" and "result__a" in classes:
            self._into, self._url, self._text = "title", _target(found.get("href") or ""), []
        elif tag == "a" and "result__snippet" in classes:
            self._into, self._text = "snippet", []

    def handle_data(self, data: str) -> None:
        """Words of a title or a snippet."""
        if self._into:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """A link ends: a title opens a result, a snippet completes the one before it."""
        if tag != "a" or self._into is None:
            return
        text = plain("".join(self._text))
        if self._into == "title" and self._url:
            self.hits.append(Hit(title=text or self._url, url=self._url))
        elif self._into == "snippet" and self.hits and self._url and not self.hits[-1].snippet:
            self.hits[-1] = self.hits[-1].model_copy(update={"snippet": text})
        self._into = None


def _target(href: str) -> str:
    """The address that a link of the result page leads to; "" for advertisements and for anything but a web address."""
    url = urllib.parse.urljoin("https://duckduckgo.com/", href)
    parts = urllib.parse.urlsplit(url)
    if parts.hostname and parts.hostname.endswith("duckduckgo.com"):
        if parts.path != "/l/":
            return ""
        url = urllib.parse.parse_qs(parts.query).get("uddg", [""])[0]
    return url if url.startswith(("http://", "https://")) else ""
