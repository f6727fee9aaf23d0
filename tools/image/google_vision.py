"""Image search on the open web through Google Cloud Vision's web detection.

The picture goes out as bytes, so it works for local crops, and nothing has to be published. The REST form of `images:annotate`
is spoken directly: a key in a header, one picture a request. An error may also stand inside an answer of status 200.
Wire format: https://cloud.google.com/vision/docs/reference/rest/v1/images/annotate (AnnotateImageResponse, WebDetection) and
https://cloud.google.com/docs/authentication/api-keys-use.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from lensgraph.tools.base import ImageSearch
from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.image.thumbnails import with_thumbnails
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, Reason, SearchResult, ToolFailure
from lensgraph.tools.safety.plain import plain, rows

WEB_DETECTION_DOLLARS = 0.0035
"""Price of one web detection after the 1,000 of a month that are free."""
MAX_IMAGE_BYTES = 7_000_000
"""A request may have 10 MB, and base64 makes a picture a third longer."""
ENTITIES = 5
"""Most things recognised by Google that are named."""

GUESS = "google-vision:guess"
"""The guess has no page, so it gets this address."""

_REASONS: dict[int, Reason] = {3: "bad_input", 4: "timeout", 8: "rate_limited", 9: "bad_input", 11: "bad_input"}
"""Codes of google.rpc.Status that are not the service's own trouble."""


class GoogleVisionImageSearch(ImageSearch, Remote):
    """Finds the web pages that show a picture, and Google's guess of what it shows. Needs a Google Cloud key."""

    service: ClassVar[str] = "Google Vision"
    key_variable: ClassVar[str] = "GOOGLE_VISION_API_KEY"
    key_header: ClassVar[str] = "x-goog-api-key"

    description: str = "Search the web by a picture. Returns what it seems to show, and pages that contain it."
    base_url: str = "https://vision.googleapis.com"
    """Address of the service; change it for one of a region, or for a proxy of your own."""
    price_per_call: float = Field(default=WEB_DETECTION_DOLLARS, ge=0)
    """US dollars a call costs; set it to 0 within the free 1,000 a month."""
    entities: bool = True
    """Let the first result say what Google takes the picture for: its best guess and the things it recognises."""
    thumbnails: bool = True
    """Fetch a small picture with each page that names one."""
    longest_side: int = Field(default=1600, ge=64)
    """Larger pictures are sent smaller, in pixels."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Ask for web detection of the picture's bytes."""
        picture = await asyncio.to_thread(jpeg, image, longest=self.longest_side, max_bytes=MAX_IMAGE_BYTES)
        content = base64.b64encode(picture).decode()
        features = [{"type": "WEB_DETECTION", "maxResults": max(self.k, ENTITIES)}]
        answer = await self.request(
            "POST",
            f"{self.base_url.rstrip('/')}/v1/images:annotate",
            json={"requests": [{"image": {"content": content}, "features": features}]},
        )
        hits, pictures = self._read_detection(_detection(answer))
        if self.thumbnails:
            hits = await with_thumbnails(hits, pictures)
        return SearchResult(kind="image", query=f"image {image.width}x{image.height}", hits=hits)

    def refusal(self, status: int, body: str) -> tuple[Reason, str] | None:
        """A wrong key is a 400 at Google."""
        if status == 400 and "API key" in body:
            return "unavailable", f"{self.service} does not accept the key; check {self.key_variable}."
        return None

    def _read_detection(self, found: dict[str, Any]) -> tuple[list[Hit], list[str | None]]:
        hits: list[Hit] = []
        pictures: list[str | None] = []
        if self.entities and (guess := _guess(found)) is not None:
            hits.append(guess)
            pictures.append(None)
        pages = [page for page in rows(found, "pagesWithMatchingImages") or [] if page.get("url")]
        for page in pages[: self.k - len(hits)]:
            url = str(page.get("url") or "")
            hits.append(Hit(title=plain(page.get("pageTitle")) or url, url=url))
            shown = [*(rows(page, "fullMatchingImages") or []), *(rows(page, "partialMatchingImages") or [])]
            pictures.append(str(shown[0].get("url") or "") if shown else None)
        return hits, pictures


def _detection(answer: Any) -> dict[str, Any]:
    """The `webDetection` of the only response; its error becomes a failure."""
    responses = answer.get("responses") if isinstance(answer, dict) else None
    if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], dict):
        raise ToolFailure("malformed", "Google Vision's answer holds no response to the picture.")
    error = responses[0].get("error")
    if error:
        code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
        line = plain(str(message), 160)
        reason = _REASONS.get(code, "unavailable") if isinstance(code, int) else "unavailable"
        raise ToolFailure(reason, f"Google Vision: {line} (code {code}).")
    found = responses[0].get("webDetection") or {}  # absent: nothing was found
    if not isinstance(found, dict) or not isinstance(found.get("pagesWithMatchingImages", []), list):
        raise ToolFailure("malformed", "Google Vision's web detection cannot be read.")
    return found


def _guess(found: dict[str, Any]) -> Hit | None:
    labels = _texts(found, "bestGuessLabels", "label")
    names = _texts(found, "webEntities", "description")[:ENTITIES]
    if not labels and not names:
        return None
    title = f"Best guess: {labels[0]}" if labels else "What the picture seems to show"
    if names:
        title += f" (related: {', '.join(names)})"
    return Hit(title=title, url=GUESS)


def _texts(found: dict[str, Any], key: str, field: str) -> list[str]:
    return [text for row in rows(found, key) or [] if (text := plain(row.get(field)))]
