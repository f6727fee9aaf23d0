"""Text search on the open web through the Brave Search API.

Wire format: https://api-dashboard.search.brave.com/app/documentation/web-search (`GET /res/v1/web/search`, key in the header
X-Subscription-Token, snippets with <strong>). A refused key is a 422 there, and a 429 says in X-RateLimit-Reset when each
exhausted limit opens again.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import httpx
from pydantic import Field, field_validator

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, Reason, SearchResult, ToolFailure
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.plain import plain, rows

LONGEST_QUERY = 400
"""Characters that the service accepts; it also takes no more than `MOST_WORDS`."""
MOST_WORDS = 50
"""Words that the service accepts in a query."""


class BraveTextSearch(TextSearch, Remote):
    """Words to pages of Brave's own index. Needs a Brave Search key."""

    service: ClassVar[str] = "Brave Search"
    key_variable: ClassVar[str] = "BRAVE_SEARCH_API_KEY"
    key_header: ClassVar[str] = "X-Subscription-Token"

    k: int = Field(default=5, ge=1, le=20)
    """Number of results to return; the service gives at most 20."""
    country: str | None = None
    """Country that results should come from, such as `DE`, or `ALL`. None: the service's default."""
    search_lang: str | None = None
    """Language of the pages, such as `en`. None: the service's default."""
    safesearch: Literal["off", "moderate", "strict"] = "moderate"
    """Filter for adult content."""
    freshness: str | None = None
    """Only pages of the last day, week, month or year (`pd`, `pw`, `pm`, `py`). None: any age."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    base_url: str = "https://api.search.brave.com"
    """Address of the service; change it for a proxy of your own."""
    price_per_call: float = Field(default=0.005, ge=0)
    """US dollars a call costs; set it to your plan's price."""

    @field_validator("safesearch", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        """`off` without quotes is a boolean in YAML."""
        return "off" if value is False else value

    async def asearch(self, query: str) -> SearchResult:
        """Ask Brave."""
        # The service refuses longer queries; their first words still say what is meant.
        short = " ".join(query.split()[:MOST_WORDS])[:LONGEST_QUERY]
        params = {
            "q": short, "count": self.k, "safesearch": self.safesearch, "result_filter": "web",
            "country": self.country, "search_lang": self.search_lang, "freshness": self.freshness,
        }  # fmt: skip
        answer = await self.request(
            "GET",
            f"{self.base_url.rstrip('/')}/res/v1/web/search",
            params={name: value for name, value in params.items() if value is not None},
            headers={"Accept": "application/json"},
        )
        if not isinstance(answer, dict) or answer.get("type") != "search":
            raise ToolFailure("malformed", "Brave Search's answer is no search response.")
        # A search without results has no `web` section.
        found = rows(answer.get("web"), "results") if "web" in answer else []
        if found is None:
            raise ToolFailure("malformed", "Brave Search's answer holds no list of results.")
        return SearchResult(kind="text", query=query, hits=[self._hit(row) for row in found[: self.k]])

    def _hit(self, row: dict[str, object]) -> Hit:
        extra = row.get("extra_snippets")
        parts = [row.get("description"), *(extra if isinstance(extra, list) else [])]
        return Hit(
            title=plain(row.get("title")) or plain(row.get("url")) or "untitled",
            url=str(row.get("url") or ""),
            snippet=plain(" ".join(part for part in parts if isinstance(part, str)), self.snippet_chars),
        )

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """A key that is refused (422, 404) or used up (429) is told apart by the code in the body."""
        code = _code(body)
        if code.startswith("SUBSCRIPTION_"):
            return "unavailable", f"Brave Search does not accept the key ({code}); check {self.key_variable}."
        if code == "QUOTA_LIMITED":
            return "rate_limited", "Brave Search: the plan's quota is used up."
        return None

    def asked_to_wait(self, answer: httpx.Response) -> float | None:
        """Seconds until every exhausted limit opens.

        `X-RateLimit-Remaining: 0, 990` with `X-RateLimit-Reset: 1, 1419704` is 1 s.
        """
        said = super().asked_to_wait(answer)
        if said is not None or answer.status_code != 429:
            return said
        try:
            left = [int(part) for part in answer.headers["x-ratelimit-remaining"].split(",")]
            opens = [float(part) for part in answer.headers["x-ratelimit-reset"].split(",")]
        except (KeyError, ValueError):
            return None
        return max((reset for remaining, reset in zip(left, opens, strict=False) if remaining <= 0), default=None)


def _code(body: str) -> str:
    """The code of an error body: under `error`, or in the first of `errors` as the reference shows it."""
    try:
        found = read_json(body)
        error = found.get("error") or found["errors"][0]
        return str(error["code"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
