"""Text search on the open web through Tavily.

The key comes from the environment variable TAVILY_API_KEY or from the configuration, is held as a `SecretStr`, and never
stands in a URL, a log line or an error.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import httpx
from pydantic import Field, SecretStr, model_validator
from tavily import AsyncTavilyClient, errors

from tools.base import TextSearch
from tools.results import Hit, SearchResult, ToolFailure

KEY_VARIABLE = "TAVILY_API_KEY"
"""Environment variable that holds the key."""
BASIC_CREDIT_DOLLARS = 0.008
"""Pay-as-you-go price of one credit; a basic search costs one, an advanced one two."""


class TavilyTextSearch(TextSearch):
    """Words to pages of the open web. Needs a Tavily key."""

    api_key: SecretStr | None = None
    """Tavily key. None: taken from TAVILY_API_KEY."""
    search_depth: Literal["basic", "advanced"] = "basic"
    """`advanced` reads more of each page and costs two credits."""
    include_domains: list[str] = []
    """Only these domains. Empty: any."""
    exclude_domains: list[str] = []
    """Never these domains."""
    snippet_chars: int = Field(default=500, ge=20)
    """Longest snippet, in characters."""
    api_base_url: str = "https://api.tavily.com"
    """Where the service is; change it for a proxy of your own."""
    price_per_call: float = Field(default=BASIC_CREDIT_DOLLARS, ge=0)
    """US dollars a call costs; set it to your plan's price, twice that for advanced searches."""

    @model_validator(mode="after")
    def _find_key(self) -> TavilyTextSearch:
        if self.api_key is None:
            self.api_key = SecretStr(os.environ.get(KEY_VARIABLE, ""))
        if not self.api_key.get_secret_value().strip():
            # Not at the first search: a run that cannot search should not start.
            raise ValueError(f"Tavily needs a key: set {KEY_VARIABLE}, or search offline with use: local.")
        return self

    async def asearch(self, query: str) -> SearchResult:
        """Ask Tavily; its failures are given the reasons of `ToolError`."""
        assert self.api_key is not None
        key = self.api_key.get_secret_value().strip()
        try:
            # A client for each call: its connections belong to one event loop, and a tool may be called from several.
            async with AsyncTavilyClient(api_key=key, api_base_url=self.api_base_url) as client:
                answer = await client.search(
                    query,
                    max_results=self.k,
                    search_depth=self.search_depth,
                    include_domains=self.include_domains,
                    exclude_domains=self.exclude_domains,
                    timeout=self.timeout,
                )
        except (errors.InvalidAPIKeyError, errors.ForbiddenError) as error:
            raise ToolFailure(
                "unavailable", f"Tavily does not accept the key or its plan; check {KEY_VARIABLE}."
            ) from error
        except errors.UsageLimitExceededError as error:
            raise ToolFailure("rate_limited", "Tavily: too many requests or the plan is used up; wait.") from error
        except (errors.TimeoutError, httpx.TimeoutException) as error:
            raise ToolFailure("timeout", f"Tavily: no answer in {self.timeout:g} s.") from error
        except errors.BadRequestError as error:
            raise ToolFailure("bad_input", f"Tavily refuses the query: {' '.join(str(error).split())[:160]}") from error
        except httpx.HTTPStatusError as error:
            raise ToolFailure("unavailable", f"Tavily answers {error.response.status_code}.") from error
        except httpx.HTTPError as error:
            raise ToolFailure("unavailable", f"Tavily cannot be reached ({type(error).__name__}).") from error
        except (ValueError, AttributeError, TypeError) as error:
            # The client reads the answer as a dictionary before we do.
            raise ToolFailure("malformed", "Tavily's answer cannot be read.") from error
        return SearchResult(kind="text", query=query, hits=self._hits(answer))

    def _hits(self, answer: Any) -> list[Hit]:
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise ToolFailure("malformed", "Tavily's answer holds no list of results.")
        return [
            Hit(
                title=str(row.get("title") or row.get("url") or "untitled"),
                url=str(row.get("url") or ""),
                snippet=" ".join(str(row.get("content") or "").split())[: self.snippet_chars],
                score=row["score"] if isinstance(row.get("score"), int | float) else None,
            )
            for row in results[: self.k]
            if isinstance(row, dict)
        ]
