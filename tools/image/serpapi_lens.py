"""Google Lens through SerpApi.

The picture is either published (`publisher`) or handed to SerpApi itself (`upload`), which keeps it for ten minutes; neither
is on by default. SerpApi takes its key as a parameter only. Wire format: https://serpapi.com/google-lens-api,
https://serpapi.com/image-api and https://serpapi.com/api-status-and-error-codes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
from PIL import Image
from pydantic import Field

from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.image.lens import LensImageSearch
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.plain import plain

MAX_UPLOAD_BYTES = 500_000
"""SerpApi takes no larger pictures."""


class SerpApiLensImageSearch(LensImageSearch):
    """Google Lens through SerpApi. Needs a SerpApi key, and `upload` or `publisher`."""

    service: ClassVar[str] = "SerpApi"
    key_variable: ClassVar[str] = "SERPAPI_API_KEY"
    key_parameter: ClassVar[str] = "api_key"

    upload: bool = False
    """Hand the picture to SerpApi, which deletes it after ten minutes, instead of publishing it."""
    longest_side: int = Field(default=1200, ge=64)
    """Larger pictures are uploaded smaller, in pixels."""
    base_url: str = "https://serpapi.com"
    """Address of the service; change it for a proxy of your own."""
    price_per_call: float = Field(default=0.025, ge=0)
    """US dollars a search costs, here that of the smallest plan; set it to your plan's price."""

    async def _ask(self, where: Mapping[str, str]) -> Any:
        parameters = {
            "engine": "google_lens", "type": self.matches, "hl": self.language, "country": self.country, **where,
        }  # fmt: skip
        return await self.request("GET", f"{self.base_url.rstrip('/')}/search.json", params=parameters)

    @asynccontextmanager
    async def _shown(self, image: Image.Image) -> AsyncIterator[Mapping[str, str]]:
        if not self.upload:
            async with super()._shown(image) as where:
                yield where
            return
        picture = await asyncio.to_thread(jpeg, image, longest=self.longest_side, max_bytes=MAX_UPLOAD_BYTES)
        fields, file = {"api_key": self.key}, ("picture.jpg", picture, "image/jpeg")
        form = httpx.Request(
            "POST", self.base_url, data=fields, files={"image": file}
        )  # never sent: it writes the form
        answer = await self.request(
            "POST",
            f"{self.base_url.rstrip('/')}/image",
            content=form.read(),
            headers={"content-type": form.headers["content-type"]},
        )
        identity = answer.get("image_id") if isinstance(answer, dict) else None
        if not isinstance(identity, str) or not identity:
            error = answer.get("error") if isinstance(answer, dict) else None
            if error:
                raise ToolFailure("bad_input", f"SerpApi takes no such picture: {plain(str(error), 160)}")
            raise ToolFailure("malformed", "SerpApi's answer to the upload holds no image_id.")
        yield {"image_id": identity}

    def _unpublished(self) -> str:
        return (
            "SerpApi needs the picture or a public address of it, and both are off; set upload: true (SerpApi keeps it for "
            "ten minutes) or publisher {use: s3, bucket: ...}, or use: google_vision."
        )
