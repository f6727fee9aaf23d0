"""Google through SerpApi."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request


def _search(status: str, **parts: Any) -> dict[str, Any]:
    return {"search_metadata": {"id": "64c32cfeb68f8bc186aaa013", "status": status}, **parts}


def _works(request: Request) -> Answer:
    results = [
        {
            "position": 1,
            "title": "Kenya",
            "link": "https://example.org/kenya",
            "displayed_link": "https://example.org › kenya",
            "snippet": "The national anthem of Kenya is Ee Mungu Nguvu Yetu.",
            "source": "Example",
        },
        {"position": 2, "title": "Anthems", "link": "https://example.org/anthems"},
    ]
    # The service repeats its own address, with the key, for the next page.
    next_page = f"https://serpapi.com/search.json?engine=google&start=10&api_key={request.query.get('api_key')}"
    return Answer(
        _search(
            "Success",
            search_parameters={"engine": "google", "q": request.query["q"]},
            search_information={"organic_results_state": "Results for exact spelling"},
            organic_results=results,
            serpapi_pagination={"next": next_page},
        )
    )


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("GET", "/search.json"):
        return Answer({"error": "Not found."}, status=404)
    if request.query.get("api_key") != key:
        said = "Invalid API key. Your API key should be here: https://serpapi.com/manage-api-key"
        return Answer({"error": said}, status=401)
    if request.query.get("engine") != "google" or not request.query.get("q"):
        return Answer({"error": "Missing query `q` parameter."}, status=400)
    return None


PROVIDER = Provider(
    name="serpapi",
    kind="text_search",
    documents="serpapi.com/search-api, serpapi.com/api-status-and-error-codes, serpapi.com/search-errors",
    options=lambda url: {"base_url": url},
    works=_works,
    empty=Answer(
        _search(
            "Success",
            search_information={"organic_results_state": "Fully empty"},
            error="Google hasn't returned any results for this query.",
        )
    ),
    refuses=_refuses,
    busy=Answer({"error": "Your account has run out of searches."}, status=429),
    broken=Answer(
        _search("Error", error="We couldn't get valid results for this search. Please try again later."), status=503
    ),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"search_metadata": {'),
        Answer([]),
        Answer({"organic_results": 3}),
    ),
    key_variable="SERPAPI_API_KEY",
)
