"""Google Lens through SerpApi, which is handed the picture."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.providers.image_google_vision import PICTURE
from provider_contract.server import Answer, Request


def searched(status: str, **parts: Any) -> dict[str, Any]:
    """An answer to a search, as SerpApi and SearchApi write it."""
    return {"search_metadata": {"id": "64c32cfeb68f8bc186aaa013", "status": status}, **parts}


def matches(key: str) -> list[dict[str, Any]]:
    """Lens's matches of the picture."""
    first = {
        "position": 1,
        "title": "The flag of Kenya",
        "link": "https://example.org/kenya",
        "source": "Example",
        "source_icon": f"https://example.org/icon.png?{key}",
        "thumbnail": PICTURE,
    }
    return [first, {**first, "position": 2, "title": "Flags", "link": "https://example.org/flags"}]


NOTHING = "Google Lens hasn't returned any results for this query."


def _works(request: Request) -> Answer:
    if request.path == "/image":
        return Answer({"message": "Image uploaded successfully.", "image_id": "xokJFnic22FmYZ6SbJZmYmCaamhsbpZ"})
    return Answer(searched("Success", visual_matches=matches(request.query.get("api_key", ""))))


def _refuses(request: Request, key: str) -> Answer | None:
    invalid = Answer({"error": "Invalid API key. Your API key should be here: https://serpapi.com/manage-api-key"}, 401)
    if (request.method, request.path) == ("POST", "/image"):
        if b'name="api_key"\r\n\r\n' + key.encode() not in request.body:
            return invalid
        if b'name="image"' not in request.body:
            return Answer({"error": "Invalid image format. Supported format: jpg, jpeg, png, webp"})
        return None
    if (request.method, request.path) != ("GET", "/search.json"):
        return Answer({"error": "Not found."}, status=404)
    if request.query.get("api_key") != key:
        return invalid
    if request.query.get("engine") != "google_lens" or not (request.query.get("image_id") or request.query.get("url")):
        return Answer({"error": "Missing query `url` parameter."}, status=400)
    return None


PROVIDER = Provider(
    name="serpapi_lens",
    kind="image_search",
    documents="serpapi.com/google-lens-api, serpapi.com/image-api, serpapi.com/search-errors",
    options=lambda url: {"base_url": url, "upload": True},
    ask=lambda _: {"image": PICTURE},
    works=_works,
    empty=Answer(searched("Success", error=NOTHING)),
    refuses=_refuses,
    busy=Answer({"error": "Your account has run out of searches."}, status=429),
    broken=Answer(
        searched("Error", error="We couldn't get valid results for this search. Please try again later."), status=503
    ),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"search_metadata": {'),
        Answer([]),
        Answer({"visual_matches": 3}),
    ),
    key_variable="SERPAPI_API_KEY",
    counts=lambda request: request.path == "/search.json",
)
