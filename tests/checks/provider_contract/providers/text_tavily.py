"""Tavily Search."""

from __future__ import annotations

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request


def error(status: int, said: str) -> Answer:
    """An error as the service words it."""
    return Answer({"detail": {"error": said}}, status=status)


def refuses(request: Request, key: str, path: str, needed: str) -> Answer | None:
    """Wrong place, wrong key, missing subject."""
    if (request.method, request.path) != ("POST", path):
        return Answer({"detail": "Not Found"}, status=404)
    if request.headers.get("authorization") != f"Bearer {key}":
        return error(401, "Unauthorized: missing or invalid API key.")
    if not isinstance(request.json, dict) or not request.json.get(needed):
        return error(400, f"{needed} is missing.")
    return None


def _works(request: Request) -> Answer:
    results = [
        {
            "title": "Kenya",
            "url": "https://example.org/kenya",
            "content": "Anthem: Ee Mungu",
            "score": 0.97,
            "raw_content": None,
        },
        {
            "title": "Anthems",
            "url": "https://example.org/anthems",
            "content": "A list.",
            "score": 0.5,
            "raw_content": None,
        },
    ]
    return Answer(
        {"query": request.json["query"], "answer": None, "images": [], "results": results, "response_time": 0.4}
    )


PROVIDER = Provider(
    name="tavily",
    kind="text_search",
    documents="docs.tavily.com/documentation/api-reference/endpoint/search; what tavily-python 0.7 sends and reads",
    options=lambda url: {"api_base_url": url},
    works=_works,
    empty=Answer({"query": "q", "results": [], "response_time": 0.4}),
    refuses=lambda request, key: refuses(request, key, "/search", "query"),
    busy=error(429, "Your request has been blocked due to excessive requests."),
    broken=error(500, "Internal Server Error"),
    malformed=(Answer("<html>proxy</html>"), Answer('{"results": ['), Answer([]), Answer({"results": None})),
    key_variable="TAVILY_API_KEY",
)
