"""Google Cloud Vision, web detection."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request

PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
"""One red pixel."""


def _error(code: int, status: str, message: str) -> Answer:
    return Answer({"error": {"code": code, "message": message, "status": status}}, status=code)


def _works(_: Request) -> Answer:
    found = {
        "webEntities": [{"entityId": "/m/04_xnb", "score": 1.1, "description": "Flag of Kenya"}],
        "fullMatchingImages": [{"url": "https://example.org/kenya.png"}],
        "pagesWithMatchingImages": [
            {
                "url": "https://example.org/kenya",
                "pageTitle": "The flag of <b>Kenya</b>",
                "fullMatchingImages": [{"url": "https://example.org/kenya.png"}],
            }
        ],
        "visuallySimilarImages": [{"url": "https://example.org/other.png"}],
        "bestGuessLabels": [{"label": "flag of kenya", "languageCode": "en"}],
    }
    return Answer({"responses": [{"webDetection": found}]})


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("POST", "/v1/images:annotate"):
        return Answer("<html>Not Found</html>", status=404)
    if request.headers.get("x-goog-api-key") != key:
        return _error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    asked: Any = request.json
    try:
        (one,) = asked["requests"]
        right = bool(one["image"]["content"]) and one["features"][0]["type"] == "WEB_DETECTION"
    except (TypeError, KeyError, IndexError, ValueError):
        right = False
    return None if right else _error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.")


PROVIDER = Provider(
    name="google_vision",
    kind="image_search",
    documents="cloud.google.com/vision/docs/reference/rest/v1/images/annotate, google/cloud/vision/v1/web_detection.proto, "
    "cloud.google.com/docs/authentication/api-keys-use",
    options=lambda url: {"base_url": url, "thumbnails": False},
    ask=lambda _: {"image": PICTURE},
    works=_works,
    empty=Answer({"responses": [{}]}),
    refuses=_refuses,
    busy=_error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests'."),
    broken=_error(503, "UNAVAILABLE", "The service is currently unavailable."),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"responses": [{'),
        Answer([]),
        Answer({"responses": 3}),
        Answer({"responses": [{"webDetection": {"pagesWithMatchingImages": 3}}]}),
    ),
    key_variable="GOOGLE_VISION_API_KEY",
)
