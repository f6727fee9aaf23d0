"""Google Lens through SearchApi.io. The picture must be published; the key travels in a header.

Wire format: https://www.searchapi.io/docs/google-lens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from lensgraph.tools.image.lens import LensImageSearch


class SearchApiLensImageSearch(LensImageSearch):
    """Google Lens through SearchApi.io. Needs a SearchApi key and a `publisher`."""

    service: ClassVar[str] = "SearchApi"
    key_variable: ClassVar[str] = "SEARCHAPI_API_KEY"
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "

    base_url: str = "https://www.searchapi.io"
    """Address of the service; change it for a proxy of your own."""
    price_per_call: float = Field(default=0.004, ge=0)
    """US dollars a search costs, here that of the smallest plan; set it to your plan's price."""

    async def _ask(self, where: Mapping[str, str]) -> Any:
        parameters = {
            "engine": "google_lens", "search_type": self.matches, "hl": self.language, "country": self.country, **where,
        }  # fmt: skip
        return await self.request("GET", f"{self.base_url.rstrip('/')}/api/v1/search", params=parameters)
