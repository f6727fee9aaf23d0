"""Tavily behind our interface, against a server on this machine: keys stay secret, failures get their reasons."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from lensgraph.tools.text.tavily import TavilyTextSearch

SECRET = "tvly-very-secret"
ROW = {"title": "Kenya", "url": "https://k", "content": "a  country\nin Africa", "score": 0.97, "raw_content": None}


class Service:
    """The fake service's answer, and the requests that it got."""

    def __init__(self) -> None:
        self.status, self.answer, self.delay = 200, json.dumps({"query": "q", "results": [ROW] * 9}), 0.0
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""


@pytest.fixture
def service() -> Iterator[Service]:
    state = Service()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.paths.append(self.path)
            state.headers.append(dict(self.headers))
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(state.delay)
            body = state.answer.encode()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()


def search(service: Service, **options: Any) -> TavilyTextSearch:
    return TavilyTextSearch(api_base_url=service.url, **{"api_key": SECRET, **options})


async def test_results_are_read_limited_and_priced(service: Service) -> None:
    result = await search(service, k=3, include_domains=["un.org"]).search("kenya anthem")
    assert result.error is None
    assert len(result.hits) == 3
    assert result.hits[0].model_dump(exclude={"thumbnail"}) == {
        "title": "Kenya", "url": "https://k", "snippet": "a country in Africa", "score": 0.97,
    }  # fmt: skip
    assert result.price == 0.008
    assert service.asked[0]["query"] == "kenya anthem"
    assert (service.asked[0]["max_results"], service.asked[0]["include_domains"]) == (3, ["un.org"])


async def test_the_key_travels_in_a_header_and_is_shown_nowhere(service: Service) -> None:
    tool = search(service)
    await tool.search("q")
    assert service.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in service.paths[0] + json.dumps(service.asked[0])
    assert SECRET not in repr(tool) + str(tool.model_dump())


@pytest.mark.parametrize("key", ["", "   "])
def test_without_a_key_the_tool_is_not_built_and_the_variable_is_named(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", key)
    with pytest.raises(ValidationError, match="set TAVILY_API_KEY"):
        TavilyTextSearch()


def test_the_key_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", SECRET)
    key = TavilyTextSearch().api_key
    assert key is not None
    assert key.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (401, '{"detail": {"error": "Unauthorized"}}', "unavailable"),
        (403, "{}", "unavailable"),
        (432, "{}", "unavailable"),
        (429, "{}", "rate_limited"),
        (400, '{"detail": {"error": "Query too long"}}', "bad_input"),
        (500, "{}", "unavailable"),
        (200, "<html>", "malformed"),
        (200, "[]", "malformed"),
        (200, '{"results": null}', "malformed"),
        (200, '{"results": []}', "empty"),
    ],
)
async def test_every_failure_has_its_reason_and_costs_nothing(
    service: Service, status: int, answer: str, reason: str
) -> None:
    service.status, service.answer = status, answer
    result = await search(service).search("q")
    assert result.error is not None
    assert result.error.reason == reason
    assert SECRET not in result.error.message
    assert result.price == 0


async def test_rows_without_their_fields_are_hits_all_the_same(service: Service) -> None:
    service.answer = json.dumps({"results": [{}, {"url": "https://u"}, "junk", {"title": "T", "score": "high"}]})
    result = await search(service).search("q")
    assert [hit.title for hit in result.hits] == ["untitled", "https://u", "T"]


async def test_a_slow_service_is_a_timeout(service: Service) -> None:
    service.delay = 1.0
    result = await search(service, timeout=0.2).search("q")
    assert result.error is not None
    assert result.error.reason == "timeout"


async def test_no_service_is_unavailable() -> None:
    result = await TavilyTextSearch(api_key=SECRET, api_base_url="http://127.0.0.1:9").search("q")
    assert result.error is not None
    assert result.error.reason == "unavailable"


def test_the_tool_works_from_several_event_loops(service: Service) -> None:
    tool = search(service)
    assert tool.invoke({"query": "one"}).startswith("1. Kenya")
    assert tool.invoke({"query": "two"}).startswith("1. Kenya")
