"""Google's results through SerpApi.

Wire format: https://serpapi.com/search-api and https://serpapi.com/api-status-and-error-codes. The service takes its key in
the query only; `lensgraph.tools.remote` keeps it out of logs. A search that found nothing is a success with an `error` line.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain, rows

NOTHING_FOUND = "hasn't returned any results"
"""Part of the line that stands in `error` when Google knows no page; the search itself is a success."""


class SerpApiTextSearch(TextSearch, Remote):
    """Words to Google's results. Needs a SerpApi key."""

    service: ClassVar[str] = "SerpApi"
    key_variable: ClassVar[str] = "SERPAPI_API_KEY"
    key_parameter: ClassVar[str] = "api_key"

    gl: str | None = None
    """Country to search from, such as `us`. None: the service's default."""
    hl: str | None = None
    """Language of the interface, such as `en`. None: the service's default."""
    location: str | None = None
    """City or region to search from, such as `Austin, Texas`. None: the service's default."""
    safe: bool = True
    """Filter for adult content."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    base_url: str = "https://serpapi.com"
    """Address of the service; change it for a proxy of your own."""
    price_per_call: float = Field(default=0.025, ge=0)
    """US dollars a call costs, here that of the smallest plan; set it to your plan's price."""

    async def asearch(self, query: str) -> SearchResult:
        """Ask SerpApi for Google's organic results."""
        params = {
            "engine": "google", "q": query, "gl": self.gl, "hl": self.hl, "location": self.location,
            "safe": "active" if self.safe else "off",
        }  # fmt: skip
        answer = await self.request(
            "GET",
            f"{self.base_url.rstrip('/')}/search.json",
            params={name: value for name, value in params.items() if value is not None},
        )
        if not isinstance(answer, dict):
            raise ToolFailure("malformed", "SerpApi's answer is no record.")
        found = rows(answer, "organic_results")
        if found is None:
            found = self._none(answer)
        hits = [
            Hit(
                title=plain(row.get("title")) or plain(row.get("link")) or "untitled",
                url=str(row.get("link") or ""),
                snippet=plain(row.get("snippet"), self.snippet_chars),
            )
            for row in found[: self.k]
        ]
        return SearchResult(kind="text", query=query, hits=hits)

    def _none(self, answer: dict[str, object]) -> list[dict[str, object]]:
        """No list of results: nothing was found, or the search failed behind a status of 200."""
        said = plain(answer.get("error"), 160)
        about = answer.get("search_metadata")
        status = about.get("status") if isinstance(about, dict) else None
        if NOTHING_FOUND in said or (status == "Success" and not said):
            return []
        if said or status in ("Error", "Processing", "Queued"):
            raise ToolFailure("unavailable", f"SerpApi: {said or f'the search is {status}'}")
        raise ToolFailure("malformed", "SerpApi's answer holds neither results nor a status.")
