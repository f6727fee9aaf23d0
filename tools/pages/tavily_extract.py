"""Reading pages through Tavily Extract, which fetches and draws the page on its side.

Wire format: https://docs.tavily.com/documentation/api-reference/endpoint/extract. A page that cannot be read is listed in
`failed_results` of an answer with status 200.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lensgraph.tools.pages.base import PageReader, for_others
from lensgraph.tools.results import Page, ToolFailure
from lensgraph.tools.safety.plain import plain, rows
from lensgraph.tools.text.tavily import BASIC_CREDIT_DOLLARS, Tavily

PAGES_A_CREDIT = 5
"""Pages that one credit pays for at basic depth; two credits at advanced depth."""


class TavilyPageReader(PageReader, Tavily):
    """Address to text, fetched by Tavily. Needs a Tavily key."""

    extract_depth: Literal["basic", "advanced"] = "basic"
    """`advanced` also reads tables and embedded content, and costs twice as much."""
    price_per_call: float = Field(default=BASIC_CREDIT_DOLLARS / PAGES_A_CREDIT, ge=0)
    """US dollars a page costs; set it to your plan's price, twice that for advanced depth."""

    async def aread(self, url: str) -> Page:
        """Ask Tavily for one page."""
        answer = await self.ask("extract", for_others(url), extract_depth=self.extract_depth, format="markdown")
        found = rows(answer, "results")
        if found is None:
            raise ToolFailure("malformed", "Tavily's answer holds no list of results.")
        if not found:
            failed: list[dict[str, Any]] = rows(answer, "failed_results") or []
            why = plain(failed[0].get("error"), 160) if failed else ""
            if failed:
                raise ToolFailure("unavailable", f"Tavily could not read {url[:200]}: {why or 'no reason given'}")
            raise ToolFailure("empty", f"Tavily found no text at {url[:200]}.")
        text = found[0].get("raw_content")
        if not isinstance(text, str):
            raise ToolFailure("malformed", "Tavily's answer holds no text.")
        return Page(url=url, title=plain(found[0].get("title")) or heading(text), text=text)


def heading(markdown: str) -> str:
    """The first heading of a page in markdown; "" if it does not begin with one."""
    first = markdown.lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
