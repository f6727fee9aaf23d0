"""Tavily Extract."""

from __future__ import annotations

from provider_contract.provider import Provider
from provider_contract.providers.text_tavily import error, refuses
from provider_contract.server import Answer, Request

URL = "https://example.org/kenya"


def _works(request: Request) -> Answer:
    text = "# Kenya\n\nThe national anthem of Kenya is Ee Mungu Nguvu Yetu."
    return Answer(
        {"results": [{"url": URL, "raw_content": text, "images": []}], "failed_results": [], "response_time": 0.02}
    )


PROVIDER = Provider(
    name="tavily",
    kind="read_page",
    documents="docs.tavily.com/documentation/api-reference/endpoint/extract; what tavily-python 0.7 sends and reads",
    options=lambda url: {"api_base_url": url},
    ask=lambda _: {"url": URL},
    works=_works,
    empty=Answer({"results": [{"url": URL, "raw_content": "", "images": []}], "failed_results": []}),
    refuses=lambda request, key: refuses(request, key, "/extract", "urls"),
    busy=error(429, "Your request has been blocked due to excessive requests."),
    broken=error(500, "Internal Server Error"),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"results": ['),
        Answer([]),
        Answer({"results": None}),
        Answer({"results": [{"url": URL}]}),
    ),
    key_variable="TAVILY_API_KEY",
)
