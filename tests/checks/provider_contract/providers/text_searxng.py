"""A SearXNG instance."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request


def found(*results: dict[str, Any], unresponsive: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """An answer in JSON, as `get_json_response` of searx/webutils.py makes it."""
    return {
        "query": "q", "results": list(results), "answers": [], "corrections": [], "infoboxes": [], "suggestions": [],
        "unresponsive_engines": [list(pair) for pair in unresponsive],
    }  # fmt: skip


def _works(request: Request) -> Answer:
    first = {
        "url": "https://example.org/kenya", "title": "Kenya", "content": "Its national anthem is Ee Mungu Nguvu Yetu.",
        "engine": "wikipedia", "engines": ["wikipedia", "brave"], "positions": [1, 2], "score": 3.0, "category": "general",
        "template": "default.html", "parsed_url": ["https", "example.org", "/kenya", "", "", ""], "publishedDate": None,
    }  # fmt: skip
    second = {"url": "https://example.org/anthems", "title": "Anthems", "content": None, "engine": "brave"}
    return Answer(found(first, second, unresponsive=(("google", "Suspended: CAPTCHA"),)))


def _refuses(request: Request, key: str) -> Answer | None:
    if request.path != "/search":
        return Answer("<html>Page not found</html>", status=404)
    if request.query.get("format") != "json":
        return Answer("<html>results</html>")
    if not request.query.get("q"):
        return Answer("<html>search</html>", status=400)
    return None


PROVIDER = Provider(
    name="searxng",
    kind="text_search",
    documents="docs.searxng.org/dev/search_api.html; get_json_response and get_translated_errors of searx/webutils.py",
    options=lambda url: {"base_url": url},
    works=_works,
    empty=Answer(found()),
    refuses=_refuses,
    busy=Answer("Too Many Requests", status=429),
    broken=Answer("<html>Internal Server Error</html>", status=500),
    malformed=(
        Answer("<html>Verifying your browser</html>"),
        Answer('{"results": ['),
        Answer([]),
        Answer({"results": None}),
    ),
)
