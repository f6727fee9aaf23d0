"""Text search in Wikipedia, or in any other MediaWiki.

Not through langchain-community: its wrapper drives the `wikipedia` package 1.4.0, which speaks unencrypted http, sets no
timeout, reads an answer as JSON whatever its status (a 429 becomes a JSONDecodeError), keeps the language in a global of
the process, sends its own name as the user agent although Wikimedia asks every program for its own, and makes a request
for each page after the search. It still plugs in by its import path. Here one request brings titles and introductions.

Wire format: https://www.mediawiki.org/wiki/API:Search (as generator), API:Extracts (TextExtracts), API:Errors_and_warnings.
Errors come with status 200 and an `error` record, read-only or overloaded times with a Retry-After header.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any, ClassVar

import httpx
from pydantic import Field

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, Reason, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain

LONGEST_QUERY = 300
"""Characters that the search accepts."""
MOST_EXTRACTS = 20
"""Introductions that one request may ask for."""
_BUSY = ("ratelimited", "maxlag", "readonly", "search-error", "cirrussearch-too-busy-error")
"""Error codes after which a later try can succeed."""


class WikipediaTextSearch(TextSearch, Remote):
    """Words to Wikipedia articles, each with its introduction. Needs no key."""

    service: ClassVar[str] = "Wikipedia"
    repeatable: ClassVar[bool] = True

    k: int = Field(default=5, ge=1, le=MOST_EXTRACTS)
    """Number of articles to return; one request brings at most 20 introductions."""
    language: str = Field(default="en", pattern=r"^[a-z][a-z-]{1,20}$")
    """Language of the Wikipedia: `en`, `de`, ..."""
    contact: str = ""
    """An e-mail address or page of yours for the user agent, which Wikimedia asks programs for. Empty: none is named."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    api_url: str = "https://{language}.wikipedia.org/w/api.php"
    """Address of the wiki's api.php; change it for another MediaWiki (with the TextExtracts extension for snippets)."""
    requests_per_second: float | None = Field(default=5.0, gt=0)
    """Client-side rate limit; Wikimedia asks for modesty rather than for a number."""

    async def asearch(self, query: str) -> SearchResult:
        """One request: search as the generator, introductions and addresses as its properties."""
        params = {
            "action": "query", "format": "json", "formatversion": 2,
            "generator": "search", "gsrsearch": query[:LONGEST_QUERY], "gsrlimit": self.k, "gsrnamespace": 0,
            "prop": "extracts|info", "exintro": 1, "explaintext": 1, "exlimit": self.k, "inprop": "url",
        }  # fmt: skip
        url = self.api_url.replace("{language}", self.language)
        answer = await self.request("GET", url, params=params, headers={"User-Agent": self._agent()})
        if not isinstance(answer, dict):
            raise ToolFailure("malformed", "Wikipedia's answer is no record.")
        if "error" in answer:
            raise _failure(answer["error"])
        found = answer.get("query", {"pages": []}) if "batchcomplete" in answer or "query" in answer else None
        pages = found.get("pages") if isinstance(found, dict) else None
        if not isinstance(pages, list):
            raise ToolFailure("malformed", "Wikipedia's answer holds no list of pages.")
        pages = sorted((page for page in pages if isinstance(page, dict)), key=_rank)
        return SearchResult(kind="text", query=query, hits=[self._hit(page) for page in pages[: self.k]])

    def _hit(self, page: dict[str, Any]) -> Hit:
        return Hit(
            title=plain(page.get("title")) or "untitled",
            url=str(page.get("fullurl") or page.get("canonicalurl") or ""),
            snippet=plain(page.get("extract"), self.snippet_chars),
        )

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """Wikimedia answers 403 to programs that do not say who they are."""
        if status == 403:
            return "unavailable", "Wikipedia turns this program away (403); set `contact` to an address of yours."
        return None

    def _agent(self) -> str:
        return f"lensgraph/{_version()} ({self.contact or 'no contact given'}) httpx/{httpx.__version__}"


def _rank(page: dict[str, Any]) -> int:
    """A generator's pages come in the order of their ids; `index` is their rank."""
    index = page.get("index")
    return index if isinstance(index, int) else 1_000_000


def _failure(error: object) -> ToolFailure:
    code = plain(error.get("code") if isinstance(error, dict) else error)
    said = plain(error.get("info") if isinstance(error, dict) else "", 160)
    if any(code.startswith(busy) for busy in _BUSY):
        return ToolFailure("rate_limited" if code == "ratelimited" else "unavailable", f"Wikipedia ({code}): {said}")
    return ToolFailure("bad_input", f"Wikipedia refuses the query ({code}): {said}")


def _version() -> str:
    try:
        return importlib.metadata.version("lensgraph")
    except importlib.metadata.PackageNotFoundError:  # read from a folder that is not installed
        return "0"
