"""Text search on the open web through Tavily.

The requests are those of tavily-python. They leave through the shared client of `lensgraph.tools.remote`, so the key, the
pace, further tries and size limits are handled as for every service. The key comes from TAVILY_API_KEY or from the
configuration.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field
from tavily import AsyncTavilyClient, errors

from lensgraph.tools.base import TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import rows

BASIC_CREDIT_DOLLARS = 0.008
"""Pay-as-you-go price of one credit; a basic search costs one, an advanced one two."""


class Tavily(Remote):
    """Shared by Tavily's search and its page reader."""

    service: ClassVar[str] = "Tavily"
    key_variable: ClassVar[str] = "TAVILY_API_KEY"
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "

    api_base_url: str = "https://api.tavily.com"
    """Address of the service; change it for a proxy of your own."""

    async def ask(self, what: Literal["search", "extract"], subject: str, **options: Any) -> Any:
        """One call of tavily-python; its failures are given the reasons of `ToolError`."""
        try:
            async with self.client(self.api_base_url) as client:
                # No key for the SDK: the shared client puts it on the request.
                sdk = AsyncTavilyClient(api_key="", api_base_url=self.api_base_url, client=client)
                # Extract takes 1 to 60 seconds for its own part; the clock of this call is `timeout` all the same.
                seconds = self.timeout if what == "search" else min(60.0, max(1.0, self.timeout))
                return await getattr(sdk, what)(subject, timeout=seconds, **options)
        except (errors.InvalidAPIKeyError, errors.ForbiddenError) as error:
            raise ToolFailure(
                "unavailable", f"Tavily does not accept the key or its plan; check {self.key_variable}."
            ) from error
        except errors.UsageLimitExceededError as error:
            raise ToolFailure("rate_limited", "Tavily: too many requests or the plan is used up; wait.") from error
        except errors.TimeoutError as error:
            raise ToolFailure("timeout", f"Tavily: no answer in {self.timeout:g} s.") from error
        except errors.BadRequestError as error:
            raise ToolFailure("bad_input", f"Tavily refuses the request: {self._said(error)}") from error
        except httpx.HTTPStatusError as error:
            raise ToolFailure("unavailable", f"Tavily answers {error.response.status_code}.") from error
        except httpx.HTTPError as error:
            raise self.failure_of(error) from error
        except (ValueError, AttributeError, TypeError) as error:
            # The client reads the answer as a dictionary before we do.
            raise ToolFailure("malformed", "Tavily's answer cannot be read.") from error

    def _said(self, error: Exception) -> str:
        return self.without_key(" ".join(str(error).split()))[:160]


class TavilyTextSearch(TextSearch, Tavily):
    """Words to pages of the open web. Needs a Tavily key."""

    search_depth: Literal["basic", "advanced"] = "basic"
    """`advanced` reads more of each page and costs two credits."""
    include_domains: list[str] = []
    """Only these domains. Empty: any."""
    exclude_domains: list[str] = []
    """Never these domains."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    price_per_call: float = Field(default=BASIC_CREDIT_DOLLARS, ge=0)
    """US dollars a call costs; set it to your plan's price, twice that for advanced searches."""

    async def asearch(self, query: str) -> SearchResult:
        """Ask Tavily."""
        answer = await self.ask(
            "search",
            query,
            max_results=self.k,
            search_depth=self.search_depth,
            include_domains=self.include_domains,
            exclude_domains=self.exclude_domains,
        )
        found = rows(answer, "results")
        if found is None:
            raise ToolFailure("malformed", "Tavily's answer holds no list of results.")
        return SearchResult(kind="text", query=query, hits=[self._hit(row) for row in found[: self.k]])

    def _hit(self, row: dict[str, Any]) -> Hit:
        return Hit(
            title=str(row.get("title") or row.get("url") or "untitled"),
            url=str(row.get("url") or ""),
            snippet=" ".join(str(row.get("content") or "").split())[: self.snippet_chars],
            score=row["score"] if isinstance(row.get("score"), int | float) else None,
        )
