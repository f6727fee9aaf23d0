"""Reading pages through Jina Reader, which fetches and draws the page on its side. Works without a key, slowly.

Wire format: https://github.com/jina-ai/reader (POST with `url`, JSON mode) and its OpenAPI document: a record with `code`,
`status` and `data` {title, url, content, warning}. An error has `data: null`, a `name` such as RateLimitTriggeredError
and, when busy, `retryAfter` in seconds; a page that answered with an error is a `warning` of a success.
"""

from __future__ import annotations

import re
from typing import ClassVar

import httpx
from pydantic import Field

from lensgraph.tools import guard
from lensgraph.tools.pages.base import PageReader, for_others
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Page, Reason, ToolFailure
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.plain import plain

_TARGET_FAILED = re.compile(r"Target URL returned error (\d{3})")


class JinaPageReader(PageReader, Remote):
    """Address to text, fetched by Jina. A key is optional."""

    service: ClassVar[str] = "Jina Reader"
    key_variable: ClassVar[str] = "JINA_API_KEY"
    key_optional: ClassVar[bool] = True
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "

    base_url: str = "https://r.jina.ai"
    """Address of the service; change it for an instance of your own, or for `https://eu.r.jina.ai`."""
    price_per_call: float = Field(default=0.0, ge=0)
    """US dollars a page costs; set it if your plan is charged by tokens."""

    async def aread(self, url: str) -> Page:
        """Ask Jina for one page."""
        answer = await self.request(
            "POST",
            f"{self.base_url.rstrip('/')}/",
            json={"url": for_others(url)},
            # The service asks robots.txt in our name, as our own fetcher does.
            headers={"Accept": "application/json", "X-Retain-Images": "none", "X-Robots-Txt": guard.USER_AGENT},
        )
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("content"), str):
            raise ToolFailure("malformed", "Jina Reader's answer holds no page.")
        warned = _TARGET_FAILED.search(plain(data.get("warning")))
        if warned:
            raise ToolFailure("unavailable", f"{url[:200]}: the server answers {warned[1]}.", status=int(warned[1]))
        return Page(url=url, title=plain(data.get("title")), text=data["content"])

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """422 and 451 speak of the page, 402 of the balance, not of a wrong request."""
        said = _error(body)
        name = plain(said.get("name"))
        why = plain(said.get("readableMessage") or said.get("message"), 160)
        if status == 422 and name != "ParamValidationError":
            return "unavailable", f"Jina Reader could not read the page: {why or name}"
        if status == 451 or (status == 403 and name == "SecurityCompromiseError"):
            return "refused", f"Jina Reader does not read this page: {why or name}"
        return None

    def asked_to_wait(self, answer: httpx.Response) -> float | None:
        """From the header, or from the body."""
        said = super().asked_to_wait(answer)
        if said is None and answer.status_code == 429:
            wait = _error(answer.text).get("retryAfter")
            return float(wait) if isinstance(wait, int | float) else None
        return said


def _error(body: str) -> dict[str, object]:
    try:
        found = read_json(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
