"""A tool of langchain-community plugs in by its import path, with nothing but configuration."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lensgraph.tools.registry import build

PAGES = [{"title": "Kenya", "url": "https://example.org/kenya", "description": "Its capital is Nairobi."}]
BRAVE = "langchain_community.tools.brave_search.tool:BraveSearch"


@pytest.fixture
def server() -> Iterator[str]:
    """A search service on this machine that knows one page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.partition("q=")[2].partition("&")[0]
            body = json.dumps({"web": {"results": [] if asked == "nothing" else PAGES}}).encode()
            self.send_response(429 if asked == "busy" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/search"
    http.shutdown()


@pytest.mark.filterwarnings("ignore")
async def test_a_community_tool_is_a_text_search_by_configuration_alone(server: str) -> None:
    tool = build("text_search", {"use": BRAVE, "search_wrapper": {"api_key": "none", "base_url": server}})
    message = await tool.ainvoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"query": "Kenya"}})
    assert message.artifact.error is None
    assert [(hit.title, hit.url, hit.snippet) for hit in message.artifact.hits] == [
        ("Kenya", "https://example.org/kenya", "Its capital is Nairobi.")
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("query", "reason"), [("nothing", "empty"), ("busy", "unavailable")])
async def test_its_failures_are_results_with_a_reason(server: str, query: str, reason: str) -> None:
    """The wrapper raises one exception for every status, so a 429 cannot be told from the rest: our own `brave` can."""
    tool = build("text_search", {"use": BRAVE, "search_wrapper": {"api_key": "a key of one's own", "base_url": server}})
    result = await tool.search(query)  # type: ignore[attr-defined]
    assert result.error.reason == reason
    assert "a key of one's own" not in result.error.message
