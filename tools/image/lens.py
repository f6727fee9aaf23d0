"""Shared by the services that run Google Lens for their customers.

Lens takes the address of a picture, not the picture. Invariant: a picture is made public only by the publisher that the
configuration names; without one a search fails and says how to configure it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from lensgraph.tools.base import ImageSearch
from lensgraph.tools.image.publish import Publisher
from lensgraph.tools.image.thumbnails import with_thumbnails
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain, rows

NOTHING_FOUND = ("hasn't returned any results", "didn't return any results")
"""The `error` with which SerpApi and SearchApi say, in an answer of status 200, that Lens knows no match."""


class LensImageSearch(ImageSearch, Remote):
    """A picture to the pages where Google Lens sees the same thing. A provider writes `_ask`."""

    description: str = "Search the web by a picture, with Google Lens. Returns titles and addresses of matching pages."
    matches: Literal["visual_matches", "exact_matches"] = "visual_matches"
    """`visual_matches`: pages that show the same thing. `exact_matches`: pages with this very picture."""
    language: str = Field(default="en", min_length=2)
    """Two-letter code of the language."""
    country: str = Field(default="us", min_length=2)
    """Two-letter code of the country to search from."""
    publisher: Publisher = None
    """Gives the picture a public address, for example `{use: s3, bucket: pictures}`. None: nothing is published."""
    thumbnails: bool = True
    """Fetch the small picture that comes with each match."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Publish the picture, ask, and read the matches."""
        async with self._shown(image) as where:
            answer = await self._ask(where)
        hits, pictures = self._read_matches(answer)
        if self.thumbnails:
            hits = await with_thumbnails(hits, pictures)
        return SearchResult(kind="image", query=f"image {image.width}x{image.height}", hits=hits)

    async def _ask(self, where: Mapping[str, str]) -> Any:
        """The service's parsed answer about the picture; `where` are the parameters that say where it is."""
        raise NotImplementedError

    @asynccontextmanager
    async def _shown(self, image: Image.Image) -> AsyncIterator[Mapping[str, str]]:
        if self.publisher is None:
            raise ToolFailure("unavailable", self._unpublished())
        async with self.publisher.published(image) as url:
            yield {"url": url}

    def _unpublished(self) -> str:
        return (
            f"{self.service} needs a public address of the picture, and publishing is off; set publisher "
            "{use: s3, bucket: ...}, or use: google_vision, which takes the picture itself."
        )

    def _read_matches(self, answer: Any) -> tuple[list[Hit], list[str | None]]:
        if not isinstance(answer, dict):
            raise ToolFailure("malformed", f"{self.service}'s answer is no record.")
        found = rows(answer, self.matches)
        if found is None:
            found = self._none(answer)
        found = found[: self.k]
        hits = [
            Hit(
                title=plain(row.get("title")) or plain(row.get("link")) or "untitled",
                url=str(row.get("link") or ""),
            )
            for row in found
        ]
        return hits, [str(row.get("thumbnail") or "") for row in found]

    def _none(self, answer: dict[str, object]) -> list[dict[str, object]]:
        """No list of matches: nothing was found, or the search failed behind a status of 200."""
        said = plain(answer.get("error"), 160)
        about = answer.get("search_metadata")
        status = about.get("status") if isinstance(about, dict) else None
        if any(words in said for words in NOTHING_FOUND) or (status == "Success" and not said):
            return []
        if said or status in ("Error", "Processing", "Queued"):
            raise ToolFailure("unavailable", f"{self.service}: {said or f'the search is {status}'}")
        raise ToolFailure("malformed", f"{self.service}'s answer holds neither matches nor a status.")
