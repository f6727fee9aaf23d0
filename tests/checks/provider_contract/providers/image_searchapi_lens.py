"""Google Lens through SearchApi.io, for a picture that is published to S3-compatible storage on the same machine."""

from __future__ import annotations

from provider_contract.provider import Provider
from provider_contract.providers.image_google_vision import PICTURE
from provider_contract.providers.image_serpapi_lens import matches, searched
from provider_contract.server import Answer, Request

BUCKET = "/pictures/"


def _works(request: Request) -> Answer:
    if request.path.startswith(BUCKET):
        return Answer()
    return Answer(searched("Success", visual_matches=matches(request.headers["authorization"])))


def _refuses(request: Request, key: str) -> Answer | None:
    if request.path.startswith(BUCKET):
        # That signatures are right is checked by the tests of the publisher.
        signed = request.method == "PUT" and request.body and request.query.get("X-Amz-Signature")
        return None if signed else Answer("<Error><Code>AccessDenied</Code></Error>", status=403)
    if (request.method, request.path) != ("GET", "/api/v1/search"):
        return Answer({"error": "Not found."}, status=404)
    if request.headers.get("authorization") != f"Bearer {key}":
        return Answer({"error": "Invalid API key."}, status=401)
    if request.query.get("engine") != "google_lens" or BUCKET not in request.query.get("url", ""):
        return Answer({"error": "The required 'url' parameter is missing."}, status=400)
    return None


PROVIDER = Provider(
    name="searchapi_lens",
    kind="image_search",
    documents="searchapi.io/docs/google-lens",
    options=lambda url: {
        "base_url": url,
        "publisher": {
            "use": "s3",
            "bucket": "pictures",
            "endpoint": url,
            "access_key_id": "id",
            "secret_access_key": "secret",
        },
    },
    ask=lambda _: {"image": PICTURE},
    works=_works,
    empty=Answer(searched("Success", error="Google Lens didn't return any results.")),
    refuses=_refuses,
    busy=Answer({"error": "You have used all of the searches for the month."}, status=429),
    broken=Answer({"error": "Internal server error."}, status=500),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"search_metadata": {'),
        Answer([]),
        Answer({"visual_matches": 3}),
    ),
    key_variable="SEARCHAPI_API_KEY",
    counts=lambda request: request.path.startswith("/api/"),
)
