"""Tools and retrievers of langchain-community, and vector stores, plug in by import path, with nothing but configuration."""

import json
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import wikipedia.wikipedia
from langchain_community.retrievers import BM25Retriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from lensgraph.tools.adapter import ForeignRetriever, adapt
from lensgraph.tools.base import TextSearch
from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.registry import ToolConfigError, build, check
from lensgraph.tools.results import SearchResult

pytestmark = pytest.mark.filterwarnings("ignore")

PAGES = [{"title": "Kenya", "url": "https://example.org/kenya", "description": "Its capital is Nairobi."}]
BRAVE = "langchain_community.tools.brave_search.tool:BraveSearch"


WIKIPEDIA = "langchain_community.retrievers:WikipediaRetriever"


@contextmanager
def serving(answer: Callable[[dict[str, list[str]]], tuple[int, Any]]) -> Iterator[str]:
    """A service on this machine: the parameters of a request in, status and JSON out."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(urllib.parse.parse_qs(self.path.partition("?")[2]))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/search"
    finally:
        http.shutdown()


@pytest.fixture
def server() -> Iterator[str]:
    """Brave with one page."""

    def brave(asked: dict[str, list[str]]) -> tuple[int, Any]:
        found = [] if asked["q"] == ["nothing"] else PAGES
        return (429 if asked["q"] == ["busy"] else 200), {"web": {"results": found}}

    with serving(brave) as url:
        yield url


@pytest.fixture
def articles() -> Iterator[tuple[str, list[str]]]:
    """Wikipedia with as many articles as are asked for, and what it was asked."""
    asked: list[str] = []

    def mediawiki(query: dict[str, list[str]]) -> tuple[int, Any]:
        if "srsearch" in query:
            asked.append(query["srsearch"][0])
            if asked[-1] == "busy":
                return 200, {"error": {"info": "too many requests"}}
            count = 0 if asked[-1] == "nothing" else int(query["srlimit"][0])
            return 200, {"query": {"search": [{"title": f"Kenya {n}"} for n in range(count)]}}
        title = query["titles"][0]
        page = {
            "pageid": 1, "title": title, "fullurl": f"https://en.wikipedia.org/wiki/{title}",
            "extract": f"{title}: its capital is Nairobi.", "revisions": [{"revid": 1, "parentid": 0}],
        }  # fmt: skip
        return 200, {"query": {"pages": {"1": page}}}

    with serving(mediawiki) as url:
        yield url, asked


async def test_a_community_tool_is_a_text_search_by_configuration_alone(server: str) -> None:
    tool = build("text_search", {"use": BRAVE, "search_wrapper": {"api_key": "none", "base_url": server}})
    message = await tool.ainvoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"query": "Kenya"}})
    assert message.artifact.error is None
    assert [(hit.title, hit.url, hit.snippet) for hit in message.artifact.hits] == [
        ("Kenya", "https://example.org/kenya", "Its capital is Nairobi.")
    ]


@pytest.mark.parametrize(("query", "reason"), [("nothing", "empty"), ("busy", "unavailable")])
async def test_its_failures_are_results_with_a_reason(server: str, query: str, reason: str) -> None:
    """The wrapper raises one exception for every status, so a 429 cannot be told from the rest: our own `brave` can."""
    tool = build("text_search", {"use": BRAVE, "search_wrapper": {"api_key": "a key of one's own", "base_url": server}})
    result = await tool.search(query)  # type: ignore[attr-defined]
    assert result.error.reason == reason
    assert "a key of one's own" not in result.error.message


# --- retrievers


def searching(built: Any) -> TextSearch:
    assert isinstance(built, TextSearch)
    return built


async def test_a_community_retriever_is_a_text_search_by_configuration_alone(
    articles: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = build("text_search", {"use": WIKIPEDIA, "top_k_results": 7})
    monkeypatch.setattr(wikipedia.wikipedia, "API_URL", articles[0])
    message = await tool.ainvoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"query": "Kenya"}})
    result = message.artifact
    assert result.error is None
    assert len(result.hits) == 7
    hit = result.hits[0]
    assert (hit.title, hit.url) == ("Kenya 0", "https://en.wikipedia.org/wiki/Kenya 0")
    assert hit.snippet == "Kenya 0: its capital is Nairobi."
    assert "Nairobi" in tool.invoke({"query": "Kenya again"})


@pytest.mark.parametrize(("query", "reason"), [("nothing", "empty"), ("busy", "unavailable")])
async def test_a_retrievers_failures_are_results_with_a_reason(
    articles: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, query: str, reason: str
) -> None:
    tool = searching(build("text_search", {"use": WIKIPEDIA}))
    monkeypatch.setattr(wikipedia.wikipedia, "API_URL", articles[0])
    result = await tool.search(query)
    assert result.error is not None
    assert result.error.reason == reason
    assert "\n" not in result.error.message


async def test_a_retriever_is_cached_by_its_settings(
    articles: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = Cache(CacheSettings(folder=str(tmp_path)))
    tools = [searching(build("text_search", {"use": WIKIPEDIA, "top_k_results": k}, cache)) for k in (2, 2, 3)]
    monkeypatch.setattr(wikipedia.wikipedia, "API_URL", articles[0])
    found = [await tool.search("Kenya") for tool in tools]
    assert [result.cached for result in found] == [False, True, False]
    assert [len(result.hits) for result in found] == [2, 2, 3]


TEXTS = ["The capital of Kenya is Nairobi", "The capital of Norway is Oslo", "Snow falls in winter"]
ROWS = [{"title": "Kenya", "url": "https://k"}, {"source": "norway.md"}, {}]


def bm25() -> BM25Retriever:
    """A retriever that is made from texts."""
    return BM25Retriever.from_texts(TEXTS, [dict(row) for row in ROWS], k=2)


store = InMemoryVectorStore(DeterministicFakeEmbedding(size=64))
store.add_documents([Document(text, metadata=row) for text, row in zip(TEXTS, ROWS, strict=True)])
ready = bm25()


def broken() -> BM25Retriever:
    raise OSError("no index at http://me:s3cret@127.0.0.1/\nsecond line")


def nonsense() -> int:
    return 7


@pytest.mark.parametrize("name", ["bm25", "ready"])
async def test_a_ready_retriever_or_a_function_that_makes_one_is_named_by_its_path(name: str) -> None:
    result = await searching(build("text_search", {"use": f"{__name__}:{name}"})).search("capital of Norway")
    assert [(hit.title, hit.url, hit.snippet) for hit in result.hits] == [
        ("norway.md", "norway.md", TEXTS[1]), ("Kenya", "https://k", TEXTS[0]),
    ]  # fmt: skip


async def test_a_vector_store_is_searched_as_a_retriever() -> None:
    result = await searching(build("text_search", {"use": f"{__name__}:store"})).search(TEXTS[2])
    first = result.hits[0]
    assert (first.title, first.url, first.snippet) == ("VectorStoreRetriever", "", TEXTS[2])
    assert len(result.hits) == 3


class Scored(BaseRetriever):
    """A retriever of somebody's own."""

    host: str = "a"

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if query == "boom":
            raise RuntimeError("key sk-0123456789abcdef refused\nsecond line")
        row = {"name": f"About {query}", "link": f"https://{self.host}", "score": 0.5, "snippet": "not this"}
        return [Document("this", metadata=row)] * 9


async def test_metadata_gives_title_address_and_score_and_five_are_kept_where_no_number_is_set() -> None:
    result = await searching(adapt("text_search", Scored())).search("q")
    hit = result.hits[0]
    assert (hit.title, hit.url, hit.snippet, hit.score) == ("About q", "https://a", "this", 0.5)
    assert len(result.hits) == 5


async def test_a_retriever_that_raises_is_one_line_without_keys() -> None:
    result: SearchResult = await searching(adapt("text_search", Scored())).search("boom")
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert "sk-0123" not in result.error.message
    assert "\n" not in result.error.message


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("text_search", {"use": f"{__name__}:Scored", "hots": "b"}, "unknown key 'hots'; valid keys: "),
        ("text_search", {"use": f"{__name__}:Scored", "host": 7}, "host=7: "),
        ("text_search", {"use": f"{__name__}:bm25", "k": 3}, "is a ready tool and takes no key 'k'"),
        ("text_search", {"use": f"{__name__}:broken"}, "OSError: no index at http://***@127.0.0.1/"),
        (
            "text_search",
            {"use": f"{__name__}:nonsense"},
            "an object of class int is no LangChain tool, retriever or vector store",
        ),
        ("text_search", {"use": f"{__name__}:searching"}, "a vector store, or a function without arguments"),
        ("text_search", {"use": f"{__name__}:InMemoryVectorStore"}, "is no LangChain tool"),
        ("image_search", {"use": f"{__name__}:bm25"}, "is a retriever, which searches by words only"),
        ("locate", {"use": f"{__name__}:store"}, "is a retriever, which searches by words only"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(kind: Any, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ToolConfigError) as caught:
        build(kind, spec)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_check_builds_nothing_and_refuses_unknown_settings() -> None:
    check("text_search", {"use": f"{__name__}:broken"})
    with pytest.raises(ToolConfigError, match="hots"):
        check("text_search", {"use": f"{__name__}:Scored", "hots": 1})


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = f"""
import sys
sys.modules["langchain_community"] = None
from lensgraph.tools import registry
try:
    registry.build("text_search", {{"use": {WIKIPEDIA!r}}})
except registry.ToolConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "pip install '.[community]' in a clone of LensGraph" in done.stdout


def test_a_retriever_can_be_adapted_by_hand() -> None:
    assert isinstance(adapt("text_search", Scored()), ForeignRetriever)
