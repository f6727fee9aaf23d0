"""The configurations that ship, each run against servers on this machine with keys that open nothing.

The searches answer as Tavily (https://docs.tavily.com/documentation/api-reference/endpoint/search) and Google Cloud Vision
(AnnotateImageResponse, WebDetection) document; the policy's server is the fixture `chat_server`, as vLLM.
"""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from lensgraph.agent import config
from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.images import ImageStore
from lensgraph.graphs import search_agent
from lensgraph.tools import registry
from lensgraph.tools.locate.grounding_dino import GroundingDinoLocator

TURNS = {
    "mmsearch_r1": [
        "<reason>Unknown.</reason><search><img></search>",
        "<reason>A lighthouse.</reason><text_search>kestrel point automated</text_search> I think it was",
        "<reason>1987.</reason><answer>1987</answer>",
    ],
    "deepmmsearch_r1": [
        "<reason>Unknown.</reason><img_search>the tower</img_search><information>made up</information>",
        "<reason>A lighthouse.</reason><text_search>kestrel point automated</text_search> and then",
        "<reason>1987.</reason><answer>1987</answer>",
    ],
}


PAGE = (
    "<html><head><title>Kestrel Point</title></head><body><article><p>The lighthouse at Kestrel Point was built of "
    "granite in 1841. Its lamp was automated in the spring of 1987, and the last keeper left a month later.</p>"
    "<p>Ships of the whole coast steer by its light, which is seen for twenty miles.</p></article></body></html>"
)
SUMMARY = "The page says that the lamp was automated in the spring."


class Search:
    """Tavily and Google Vision on one port; remembers (path, key, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None, Any]] = []
        self.read: list[str] = []  # pages
        outer = self
        buffer = io.BytesIO()
        Image.new("RGB", (64, 48), "red").save(buffer, "JPEG")
        thumbnail = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        pages = [
            {
                "url": f"https://example.org/{n}",
                "pageTitle": f"<b>Kestrel</b> {n}",
                "fullMatchingImages": [{"url": thumbnail}],
            }
            for n in range(5)
        ]
        answers: dict[str, Any] = {
            "/search": {"query": "q", "results": [
                {"title": "Kestrel Point", "url": "https://example.org/k", "content": "Automated in 1987.", "score": 0.9}]},
            "/v1/images:annotate": {"responses": [{"webDetection": {
                "pagesWithMatchingImages": pages, "bestGuessLabels": [{"label": "kestrel point"}]}}]},
        }  # fmt: skip

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the page that was found; there is no robots.txt
                found = self.path == "/kestrel"
                outer.read += [self.path] if found else []
                data = PAGE.encode() if found else b""
                self.send_response(200 if found else 404)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                key = self.headers.get("authorization") or self.headers.get("x-goog-api-key")
                outer.requests.append((self.path, key, body))
                data = (
                    json.dumps(answers[self.path]).replace('https://example.org/k"', f'{outer.url}/kestrel"').encode()
                )
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def search() -> Iterator[Search]:
    one = Search()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-fake-key")
    monkeypatch.setenv("GOOGLE_VISION_API_KEY", "google-fake-key")


async def ask(settings: Config) -> dict[str, Any]:
    context = Context(config=settings, store=ImageStore())
    given = {"question": "When was it automated?", "images": [Image.new("RGB", (300, 200), "red")]}
    result: dict[str, Any] = await search_agent.graph.ainvoke(given, context=context)
    return result


@pytest.mark.parametrize(
    ("name", "dialect"), [("mmsearch_r1", "mmsearch_r1"), ("deepmmsearch_prompted", "deepmmsearch_r1")]
)
async def test_the_live_configurations_search_and_answer(
    chat_server: Callable[..., Any], search: Search, name: str, dialect: str
) -> None:
    server = chat_server("vllm")
    turns = TURNS[dialect]
    asked_to_sum_up: list[str] = []

    def says(body: dict[str, Any]) -> str:
        if body["messages"][0]["role"] == "system" and "You summarise one page" in str(body["messages"][0]["content"]):
            asked_to_sum_up.append(str(body["messages"][1]["content"]))
            return SUMMARY
        return turns[sum(m["role"] == "assistant" for m in body["messages"])]

    server.says = says
    if name == "mmsearch_r1":  # this one was trained to end its turns there
        turns = [turn.split(" I think")[0] for turn in turns]
    addresses = [
        f"policy.base_url={server.url}", f"tools.text_search.api_base_url={search.url}",
        f"tools.image_search.base_url={search.url}",
    ]  # fmt: skip
    port = search.http.server_port
    addresses.append(
        f"tools.text_search.read.reader={{use: fetch, allow_networks: [127.0.0.0/8], allow_ports: [{port}]}}"
    )
    if name == "deepmmsearch_prompted":  # its locator is a checkpoint of the hub
        addresses.append("tools.locate.use=lensgraph.agent.testing:FixedLocator")
    result = await ask(config.load_config(name, addresses, environ={}))
    assert (result["answer"], result["stop_reason"]) == ("1987", "answered")
    assert result["usage"]["searches"] == {"image": 1, "text": 1}
    assert [(path, key) for path, key, _ in search.requests] == [
        ("/v1/images:annotate", "google-fake-key"), ("/search", "Bearer tvly-fake-key"),
    ]  # fmt: skip
    assert search.requests[1][2]["query"] == "kestrel point automated"
    assert search.requests[1][2]["max_results"] == 5
    # the page was read, summed up by the policy itself, and the summary is what the policy was shown
    assert search.read == ["/kestrel"]
    assert len(asked_to_sum_up) == 1
    assert "built of granite in 1841" in asked_to_sum_up[0] and "When was it automated?" in asked_to_sum_up[0]
    last = server.requests[-1]
    assert SUMMARY in json.dumps(last["messages"]) and "granite" not in json.dumps(last["messages"])
    assert (last["temperature"], last["max_tokens"], last["return_token_ids"]) == (0.0, 2048, True)
    pictures = [
        part
        for m in last["messages"]
        if isinstance(m["content"], list)
        for part in m["content"]
        if part["type"] == "image_url"
    ]
    # the question's and five thumbnails; or the question's and the crop, and words for the rest
    assert len(pictures) == (6 if dialect == "mmsearch_r1" else 2)
    if dialect == "deepmmsearch_r1":
        assert last["stop"] == ["</answer>", "</text_search>", "</img_search>"]
        said = [m["content"] for m in last["messages"] if m["role"] == "assistant"]
        assert said[0].endswith("</img_search>")


def test_the_limits_are_those_of_the_papers() -> None:
    mmsearch = Backends(Context(config=config.load_config("mmsearch_r1", environ={}))).dialect
    assert (mmsearch.name, mmsearch.lenient) == ("mmsearch_r1", False)
    assert (mmsearch.limits.image, mmsearch.limits.text, mmsearch.limits.turns, mmsearch.limits.tokens) == (
        1,
        2,
        3,
        8192,
    )
    deep = Backends(Context(config=config.load_config("deepmmsearch_prompted", environ={}))).dialect
    assert (deep.limits.image, deep.limits.text, deep.limits.calls, deep.limits.tokens) == (1, None, 10, 8192)
    for name in ("mmsearch_r1", "deepmmsearch_prompted"):
        settings = config.load_config(name, environ={})
        assert settings.policy.max_new_tokens == 2048
        assert settings.images.view_pixels == 672 * 672 * 2
        assert all(getattr(settings.tools, kind).model_dump()["k"] == 5 for kind in ("text_search", "image_search"))
        assert registry.load_provider("text_search", settings.tools.text_search.use).service == "Tavily"
        assert registry.load_provider("image_search", settings.tools.image_search.use).service == "Google Vision"
    assert registry.load_provider("locate", settings.tools.locate.use) is GroundingDinoLocator


async def test_the_local_configuration_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAVILY_API_KEY", "GOOGLE_VISION_API_KEY"):
        monkeypatch.delenv(name)
    settings = config.load_config("local", environ={})
    assert settings == config.load_config(environ={})  # the defaults, written out
    result = await ask(settings)
    assert result["stop_reason"] != "policy_failed"
    assert result["usage"]["turns"] >= 1


async def test_the_local_vllm_configuration_searches_the_local_index(chat_server: Callable[..., Any]) -> None:
    server = chat_server("vllm")
    turns = [
        "<reason>r</reason><text_search>kenya national anthem</text_search>",
        "<answer>Ee Mungu Nguvu Yetu</answer>",
    ]
    server.says = lambda body: turns[sum(m["role"] == "assistant" for m in body["messages"])]
    result = await ask(config.load_config("local_vllm", [f"policy.base_url={server.url}"], environ={}))
    assert result["answer"] == "Ee Mungu Nguvu Yetu"
    assert result["sources"]


def test_names_and_files_are_told_apart(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.ready() == ["deepmmsearch_prompted", "local", "local_vllm", "mmsearch_r1"]
    with pytest.raises(
        ConfigError, match=r"mmsearch: no such file, and no ready configuration; ready ones: deepmmsearch"
    ):
        config.load_config("mmsearch", environ={})
    with pytest.raises(ConfigError, match=r"mine.yaml: cannot be read"):
        config.load_config("mine.yaml", environ={})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").write_text("policy: {model: my/model}")  # a file of one's own goes first
    assert config.load_config("local", environ={}).policy.model == "my/model"
    assert config.load_config(None, environ={"LENSGRAPH_CONFIG": "mmsearch_r1"}).dialect.name == "mmsearch_r1"


def test_a_missing_key_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_VISION_API_KEY")
    backends = Backends(Context(config=config.load_config("mmsearch_r1", environ={})))
    with pytest.raises(ConfigError, match="Google Vision needs a key: set GOOGLE_VISION_API_KEY"):
        backends.build_tool("image_search")
