"""Brave Search."""

from __future__ import annotations

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request


def _error(status: int, code: str, detail: str, component: str) -> Answer:
    error = {"id": "5d832250", "status": status, "code": code, "detail": detail, "meta": {"component": component}}
    return Answer({"type": "ErrorResponse", "error": error, "time": 1663072993}, status=status)


def _works(request: Request) -> Answer:
    results = [
        {
            "title": "Kenya",
            "url": "https://example.org/kenya",
            "description": "The <strong>national anthem</strong> of Kenya is &quot;Ee Mungu Nguvu Yetu&quot;.",
            "extra_snippets": ["It was written in 1963."],
            "language": "en",
            "family_friendly": True,
        },
        {"title": "Anthems", "url": "https://example.org/anthems", "description": "A list of anthems."},
    ]
    return Answer(
        {
            "type": "search",
            "query": {"original": request.query["q"], "more_results_available": False},
            "web": {"type": "search", "results": results, "family_friendly": True},
        }
    )


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("GET", "/res/v1/web/search"):
        return Answer("Not Found", status=404)
    if request.headers.get("x-subscription-token") != key:
        said = "The provided subscription token is invalid."
        return _error(422, "SUBSCRIPTION_TOKEN_INVALID", said, "authentication")
    query = request.query.get("q", "")
    if not 0 < len(query) <= 400 or len(query.split()) > 50 or not 0 < int(request.query.get("count", 20)) <= 20:
        return _error(422, "VALIDATION", "Unable to validate request parameter(s)", "validation")
    return None


def _busy(seconds: float) -> Answer:
    # 1 request a second and 15,000 a month; the monthly limit is not exhausted, so its reset does not count.
    return PROVIDER.busy.with_headers(
        X_RateLimit_Limit="1, 15000",
        X_RateLimit_Policy="1;w=1, 15000;w=2592000",
        X_RateLimit_Remaining="0, 990",
        X_RateLimit_Reset=f"{seconds:g}, 1419704",
    )


PROVIDER = Provider(
    name="brave",
    kind="text_search",
    documents=(
        "api-dashboard.search.brave.com/app/documentation/web-search: query parameters, response headers, and the error "
        "responses of the API reference (404, 422, 429)"
    ),
    options=lambda url: {"base_url": url},
    works=_works,
    empty=Answer({"type": "search", "query": {"original": "q"}}),
    refuses=_refuses,
    busy=_error(429, "RATE_LIMITED", "Request rate limit exceeded for plan.", "rate_limiter"),
    busy_for=_busy,
    broken=_error(500, "INTERNAL", "Internal error.", "backend"),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"type": "search", "web": {"resul'),
        Answer([]),
        Answer({"type": "search", "web": {"results": None}}),
        Answer({"type": "ErrorResponse"}),
    ),
    key_variable="BRAVE_SEARCH_API_KEY",
)
