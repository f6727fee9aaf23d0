"""Text search through a SearXNG instance of your own, which asks many engines and needs no key.

Wire format: https://docs.searxng.org/dev/search_api.html and `get_json_response` of searx/webutils.py. JSON must be listed
under `search.formats` of the instance's settings.yml, else it answers 403. When its engines fail, it answers 200 with no
result and names them in `unresponsive_engines`: that is a failure, not an empty result.
"""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, Reason, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain, rows

URL_VARIABLE = "SEARXNG_URL"
"""Environment variable that names the instance."""
_BUSY = ("too many requests", "captcha", "suspended")
"""Words of an engine's error that mean it was asked too often."""


class SearxngTextSearch(TextSearch, Remote):
    """Words to pages, through a SearXNG instance. Needs its address."""

    service: ClassVar[str] = "SearXNG"
    repeatable: ClassVar[bool] = True

    base_url: str = ""
    """Address of the instance. Empty: taken from SEARXNG_URL."""
    categories: list[str] = ["general"]
    """Categories of engines to ask."""
    engines: list[str] = []
    """Only these engines. Empty: those of the categories."""
    language: str | None = None
    """Language of the pages, such as `en`. None: the instance's default."""
    safesearch: Literal[0, 1, 2] = 1
    """Filter for adult content: none, moderate, strict."""
    time_range: Literal["day", "month", "year"] | None = None
    """Only pages of this age. None: any age."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""

    @model_validator(mode="after")
    def _find_instance(self) -> SearxngTextSearch:
        self.base_url = (self.base_url or os.environ.get(URL_VARIABLE, "")).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            shown = f"base_url {self.base_url!r} is no address" if self.base_url else "SearXNG needs an instance"
            raise ValueError(
                f"{shown}: set base_url or {URL_VARIABLE} to where yours is, such as http://127.0.0.1:8080."
            )
        return self

    async def asearch(self, query: str) -> SearchResult:
        """Ask the instance."""
        params = {
            "q": query, "format": "json", "safesearch": self.safesearch, "categories": ",".join(self.categories),
            "engines": ",".join(self.engines), "language": self.language, "time_range": self.time_range,
        }  # fmt: skip
        answer = await self.request(
            "GET",
            f"{self.base_url}/search",
            params={name: value for name, value in params.items() if value not in (None, "")},
        )
        found = rows(answer, "results")
        if found is None:
            raise ToolFailure("malformed", "SearXNG's answer holds no list of results.")
        if not found:
            _raise_if_engines_failed(answer.get("unresponsive_engines"))
        hits = [
            Hit(
                title=plain(row.get("title")) or plain(row.get("url")) or "untitled",
                url=str(row.get("url") or ""),
                snippet=plain(row.get("content"), self.snippet_chars),
                score=float(score) if isinstance(score := row.get("score"), int | float) else None,
            )
            for row in found[: self.k]
        ]
        return SearchResult(kind="text", query=query, hits=hits)

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """403 is how an instance says that it does not serve JSON."""
        if status == 403:
            return "unavailable", "SearXNG does not serve JSON; add `json` to search.formats in its settings.yml."
        return None


def _raise_if_engines_failed(engines: object) -> None:
    failed = [
        (plain(entry[0]), plain(entry[1]))
        for entry in (engines if isinstance(engines, list) else [])
        if isinstance(entry, list | tuple) and len(entry) >= 2
    ]
    if not failed:
        return
    busy = all(any(word in why.lower() for word in _BUSY) for _, why in failed)
    named = ", ".join(f"{name} ({why})" for name, why in failed)[:160]
    raise ToolFailure("rate_limited" if busy else "unavailable", f"SearXNG: no engine answered: {named}.")
