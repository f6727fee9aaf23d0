"""No byte of a picture in checkpoints, streams, events, LangSmith's uploads and OpenTelemetry's exports; and the search for
them finds bytes that are let through."""

import base64
import contextlib
import importlib
import io
import itertools
import json
import os
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from langsmith import Client
from langsmith.run_helpers import tracing_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from picture_bytes import PictureBytes, texts_of
from PIL import Image

from lensgraph import Context
from lensgraph.agent import question, testing
from lensgraph.agent.context import backends_of
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes import call_tool
from lensgraph.agent.policy.calling import by_id
from lensgraph.agent.policy.calling.shown import materialise
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.agent.savers import saver
from lensgraph.graphs import table
from lensgraph.graphs.asking import AskGraph
from lensgraph.tools import adapter
from lensgraph.tools.results import Hit, SearchResult, ToolFailure

MODES = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]
GRAPHS = ["search_agent", "rag", "direct"]
TURNS = {
    "search_agent": [
        "<img_search>the tower</img_search>", "<crop>the door</crop>", "<text_search>tower</text_search>",
        "<answer>1987</answer>",
    ],
    "rag": ["<text_search>tower</text_search>", "<answer>1987</answer>"],
    "direct": ["<answer>1987</answer>"],
}  # fmt: skip
CALLS = ["image_search the tower", "crop the door", "answer 1987"]
"""A run with native tool calls, which shows thumbnails as well."""
THUMBNAILS = ["<reason>r</reason><search><img></search>", "<reason>r</reason><answer>1987</answer>"]
"""A run of MMSearch-R1, which shows thumbnails to the policy."""


def noise(width: int, height: int, form: str = "JPEG") -> bytes:
    """A picture of which no two parts are equal."""
    buffer = io.BytesIO()
    bands = [Image.effect_noise((width, height), 80) for _ in range(3)]
    Image.merge("RGB", bands).save(buffer, form, quality=80)
    return buffer.getvalue()


class Foreign(BaseChatModel):
    """A chat model of a user's own, which streams and asks another one inside."""

    turns: list[str]
    model: str = "org/other-7b"
    inside: Any = None
    seen: list[list[BaseMessage]] = []

    @property
    def _llm_type(self) -> str:
        return "foreign"

    def _turn(self, messages: list[BaseMessage]) -> AIMessage:
        self.seen.append(messages)
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        said = sum(isinstance(message, AIMessage) for message in messages)
        return AIMessage(self.turns[said], usage_metadata=usage, response_metadata={"finish_reason": "stop"})

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        if self.inside is not None:
            self.inside.invoke(messages)
        return ChatResult(generations=[ChatGeneration(message=self._turn(messages))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        if self.inside is not None:
            await self.inside.ainvoke(messages)
        return ChatResult(generations=[ChatGeneration(message=self._turn(messages))])


@tool
def lens(image: str) -> list[dict[str, str]]:
    """Search by a picture, given as a data URI."""
    assert image.startswith("data:image/png;base64,")
    return [{"title": "A tower", "url": "https://example.org/t"}]


class Calling(Foreign):
    """The same for a model that calls tools."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self.bind(tools=tools)

    def _turn(self, messages: list[BaseMessage]) -> AIMessage:
        reply = super()._turn(messages)
        name, _, text = str(reply.content).partition(" ")
        argument = {"image_search": "region", "text_search": "query", "crop": "region", "answer": "text"}[name]
        calls = [{"type": "tool_call", "name": name, "args": {argument: text}, "id": f"call-{len(messages)}"}]
        return reply.model_copy(update={"content": "", "tool_calls": calls})


class Streaming(Foreign):
    """The same, token by token."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[ChatGenerationChunk]:
        for letter in str(self._turn(messages).content):
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))


class Everything(BaseCallbackHandler):
    """Keeps all that callbacks are told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        told = super().__getattribute__("told")

        def keep(*arguments: Any, **named: Any) -> None:
            told.append((name, arguments, named))

        return keep


class Run:
    """A graph, its context and what it is asked."""

    def __init__(self, graph: str, context: Context, image: bytes) -> None:
        self.graph, self.context = graph, context
        self.asked: dict[str, Any] = {"question": "When was it automated?", "images": [image]}
        self.known = [image]

    @property
    def store(self) -> ImageStore:
        """The store of the run."""
        assert self.context.store is not None
        return self.context.store

    async def pictures(self) -> PictureBytes:
        """All pictures of the run: the question's, crops, thumbnails and views, encoded and as pixels."""
        search = await (await backends_of(self.context)).tool("image_search")
        for name in list(self.store._encoded.items):
            found = await search.search(self.store.open(name))  # type: ignore[attr-defined]
            self.known += [hit.thumbnail for hit in found.hits if hit.thumbnail]
        held = [*self.known, *(data for data, _ in self.store._encoded.items.values())]
        held += [base64.b64decode(block["base64"]) for block, _ in self.store._views.items.values()]
        return PictureBytes([*held, *(Image.open(io.BytesIO(one)).convert("RGB").tobytes() for one in held)])


Make = Callable[[str, str], Run]


@pytest.fixture
def make(chat_server: Any) -> Make:
    """A run of a graph with a policy: `foreign`, `streaming`, `nested`, `server` or `pocket`; `thumbnails` are shown to
    a foreign one, which `calls` tools; with `adapted` the image search is foreign, too."""

    def make(graph: str, policy: str) -> Run:
        store, image = ImageStore(), noise(72, 56)
        if policy == "pocket":
            picture = Path(__file__).parents[3] / "notebooks" / "flags.png"
            run = Run(graph, Context(store=store), picture.read_bytes())
            run.asked["question"] = "What is the capital of the country of the second flag from the left?"
            return run
        turns = {"thumbnails": THUMBNAILS, "calls": CALLS}.get(policy, TURNS[graph])
        models: dict[str, Callable[[], BaseChatModel]] = {
            "foreign": lambda: Foreign(turns=turns),
            "thumbnails": lambda: Foreign(turns=turns),
            "adapted": lambda: Foreign(turns=turns),
            "calls": lambda: Calling(turns=turns),
            "streaming": lambda: Streaming(turns=turns),
            "nested": lambda: Foreign(turns=turns, inside=Foreign(turns=turns)),
            "server": lambda: OpenAICompatiblePolicy(model="m", base_url=serve(turns)),
        }
        thumbnail = noise(48, 40, "PNG")
        hit = Hit(title="A tower", url="https://example.org/t", thumbnail=thumbnail)
        search: BaseTool = lens if policy == "adapted" else testing.FixedImage(hits=[hit])
        dialect = {"thumbnails": "mmsearch_r1", "calls": "tools"}.get(policy, "compact")
        context = testing.context([], dialect, policy=models[policy](), store=store, image_search=search)
        run = Run(graph, context, image)
        run.known.append(thumbnail)
        return run

    def serve(turns: list[str]) -> str:
        server = chat_server("vllm")
        server.says = lambda body: turns[sum(message["role"] == "assistant" for message in body["messages"])]
        return str(server.url)

    return make


async def streamed(run: Run) -> dict[str, Any]:
    """All stream modes at once, what callbacks are told, and the checkpoints of the thread."""
    told, memory = Everything(), InMemorySaver()
    config: Any = {"callbacks": [told], "configurable": {"thread_id": "1"}}
    graph = table.build(run.graph, memory)
    parts = [
        part
        async for part in graph.astream(run.asked, config, context=run.context, stream_mode=MODES, subgraphs=True)  # type: ignore[arg-type]
    ]
    kept = [checkpoint async for checkpoint in memory.alist(config)]
    raw = [memory.storage, memory.writes, memory.blobs]
    assert {part[1] for part in parts} == set(MODES)
    return {"streams": parts, "callbacks": told.told, "checkpoints": [kept, raw]}


async def events(run: Run) -> dict[str, Any]:
    """The events of every version."""
    graph = table.find(run.graph)
    found: dict[str, Any] = {}
    for version in ("v1", "v2"):
        with warnings.catch_warnings():  # v1 is deprecated
            warnings.simplefilter("ignore")
            found[version] = [
                event async for event in graph.astream_events(run.asked, context=run.context, version=version)
            ]
        assert {event["event"] for event in found[version]} >= {"on_chain_start", "on_chat_model_start"}
    running = await graph.astream_events(run.asked, context=run.context, version="v3")  # type: ignore[misc]
    found["v3"] = [event async for event in running]
    assert found["v3"]
    return found


async def saved(run: Run, folder: Path) -> dict[str, Any]:
    """The database of a thread, as it lies on disk and as it is read."""
    config: Any = {"configurable": {"thread_id": "1"}}
    async with saver(f"sqlite:///{folder}/threads.db") as kept:
        await table.build(run.graph, kept).ainvoke(run.asked, config, context=run.context)
        read = [checkpoint async for checkpoint in kept.alist(config)]
    assert read
    return {"database": [read, [path.read_bytes() for path in folder.glob("threads.db*")]]}


async def uploaded(run: Run, url: str) -> None:
    """LangSmith's own client sends the run to `url`."""
    client = Client(api_url=url, api_key="k", info={"instance_flags": {"zstd_compression_enabled": True}})
    with tracing_context(enabled=True, client=client, project_name="p"):
        await table.find(run.graph).ainvoke(run.asked, context=run.context)
    client.flush()


Sinks = Callable[[Run], Awaitable[dict[str, Any]]]


@pytest.fixture
def sinks(
    collector: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Sinks:
    """Runs a graph once for each sink; gives all that was sent or kept there. Spans hold messages and arguments, too."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    spans = request.getfixturevalue("spans")
    langsmith, otlp = collector(), collector()
    spans.provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp.url}/v1/traces")))

    async def found(run: Run) -> dict[str, Any]:
        things = await streamed(run) | await events(run) | await saved(run, tmp_path)
        await uploaded(run, langsmith.url)
        decoded = [str(ExportTraceServiceRequest.FromString(body)) for _, body in otlp.requests]
        return {**things, "langsmith": langsmith.requests, "otlp": [otlp.requests, decoded]}

    return found


POLICIES = ["foreign", "streaming", "nested", "adapted", "server", "pocket"]
DEFAULT = {("search_agent", "nested"), ("search_agent", "calls"), ("rag", "adapted"), ("direct", "server")}
"""Runs of the default suite; the others are slow."""
CASES = [
    pytest.param(graph, policy, marks=() if (graph, policy) in DEFAULT else pytest.mark.slow)
    for graph, policy in [
        *itertools.product(GRAPHS, POLICIES),
        ("search_agent", "thumbnails"),
        ("search_agent", "calls"),
    ]
]


@pytest.mark.parametrize(("graph", "policy"), CASES)
async def test_nothing_that_is_kept_or_sent_holds_a_picture(graph: str, policy: str, make: Make, sinks: Sinks) -> None:
    run = make(graph, policy)
    found = await sinks(run)
    pictures = await run.pictures()
    assert {sink: leaks for sink, things in found.items() if (leaks := pictures.leaks(things))} == {}
    for sink in ("callbacks", "v2", "langsmith"):  # the ids of all pictures are told
        text = b"".join(data for _, data in texts_of(found[sink]))
        assert all(name.encode() in text for name in run.store._encoded.items), sink
    assert "gen_ai.input.messages" in str(found["otlp"]), "content was asked for"


async def test_a_run_that_waits_for_a_person_and_a_follow_up_hold_no_picture(make: Make, tmp_path: Path) -> None:
    """Stopped before each call, gone on with, then asked about another picture, and cut off by a limit."""
    run, told, parts = make("search_agent", "foreign"), Everything(), []
    run.context.approve = ["image_search", "crop", "text_search"]
    config: Any = {"callbacks": [told], "configurable": {"thread_id": "1"}}
    second = noise(80, 60)
    async with saver(f"sqlite:///{tmp_path}/threads.db") as kept:
        graph = table.build("search_agent", kept)
        waited = 0
        for asked in (run.asked, {"question": "And this one?", "images": [second]}):
            given: Any = asked
            while True:
                streamed = graph.astream(given, config, context=run.context, stream_mode=MODES, subgraphs=True)  # type: ignore[arg-type]
                parts += [part async for part in streamed]
                if not (await graph.aget_state(config)).next:
                    break
                waited, given = waited + 1, Command(resume={"type": "approve"})
            run.context.policy = Foreign(turns=["<text_search>a</text_search>"])
            run.context.max_text_searches = 0
        read = [checkpoint async for checkpoint in kept.alist(config)]
    assert waited >= 3
    run.known.append(second)
    database = [read, [path.read_bytes() for path in tmp_path.glob("threads.db*")]]
    found = {"streams": parts, "callbacks": told.told, "database": database}
    pictures = await run.pictures()
    assert {sink: leaks for sink, things in found.items() if (leaks := pictures.leaks(things))} == {}


class Repeating(testing.FixedImage):
    """An image search whose failure repeats what it was sent, as a library does in its message."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        raise ToolFailure("unavailable", f"cannot read data:image/png;base64,{base64.b64encode(buffer.getvalue())!r}")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["server", "tool"])
async def test_a_failure_that_repeats_the_picture_is_told_without_it(
    by: str, make: Make, sinks: Sinks, chat_server: Any
) -> None:
    run = make("search_agent", "foreign")
    if by == "server":
        server = chat_server("vllm")
        server.refusal = lambda body: (400, {"error": {"message": json.dumps(body["messages"])[90:]}})
        run.context.policy = OpenAICompatiblePolicy(model="m", base_url=server.url)
    else:
        run.context.image_search = Repeating()
    found = await sinks(run)
    pictures = await run.pictures()
    assert {sink: leaks for sink, things in found.items() if (leaks := pictures.leaks(things))} == {}
    assert "***" in str(found["checkpoints"]), "the failure is told"


class Raising(Foreign):
    """A chat model with a bug, whose message repeats its input."""

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        try:
            raise KeyError(f"no {messages}")
        except KeyError as error:
            raise ValueError(f"cannot read {messages}") from error


async def test_an_exception_of_a_model_is_told_without_the_picture(
    make: Make, collector: Callable[[], Any], spans: Any
) -> None:
    run, server, told = make("search_agent", "foreign"), collector(), Everything()
    run.context.policy = Raising(turns=[])
    client = Client(api_url=server.url, api_key="k")
    with tracing_context(enabled=True, client=client), pytest.raises(ValueError, match=r"cannot read .*\*\*\*"):
        await table.find("search_agent").ainvoke(run.asked, {"callbacks": [told]}, context=run.context)
    client.flush()
    exported = [span.to_json() for span in spans.get_finished_spans()]
    assert "exception.stacktrace" in str(exported) or "error.type" in str(exported)
    assert (await run.pictures()).leaks({"told": told.told, "langsmith": server.requests, "otlp": exported}) == {}


async def test_a_picture_in_any_form_is_found() -> None:
    picture = noise(64, 48)
    search = PictureBytes([picture])
    part = picture[701:765]
    assert search.form_in(b"ab" + part + b"c") == "raw"
    for offset in range(3):
        text = base64.b64encode(b"x" * offset + picture[900:1000]).decode()
        assert search.leaks({"a": [f"said: {text[8:56]}!"]}) == {".a[0]": "base64"}
        assert search.form_in(base64.urlsafe_b64encode(b"x" * offset + picture[900:1000])[8:56]) == "base64"
    assert search.form_in(part.hex().encode()) == "hex"
    assert search.form_in(repr(part).encode()) == "repr"
    assert search.form_in(base64.b64encode(os.urandom(4000))) is None


def _deposit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deposit(given: Any, *_: Any, **__: Any) -> Any:
        return given

    monkeypatch.setattr(question, "deposit", deposit)


def _messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def filled(dialogue: Any, store: Any, sizes: Any, known: Any) -> list[BaseMessage]:
        return await materialise(dialogue, store, sizes)

    monkeypatch.setattr(importlib.import_module("lensgraph.agent.nodes.reason"), "by_id", filled)


MUTATIONS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "the input keeps pictures": ("foreign", _deposit, {"checkpoints", "database", "streams", "callbacks", "langsmith"}),
    "the policy is called with pictures": ("foreign", _messages, {"callbacks", "v2", "langsmith", "otlp"}),
    "a tool's run is told the picture": (
        "foreign",
        lambda patch: patch.setattr(call_tool, "facts", lambda record: {"data": STORES[-1].bytes(record["id"])}),
        {"callbacks", "v2", "langsmith", "otlp"},
    ),
    "a tool's run is told thumbnails": (
        "foreign",
        lambda patch: patch.setattr(Hit, "model_copy", lambda self, **_: self),
        {"callbacks", "v2", "langsmith"},
    ),
    "a model inside is traced": (
        "nested",
        lambda patch: patch.setattr(by_id, "untraced", contextlib.nullcontext),
        {"callbacks", "langsmith", "otlp"},
    ),
    "a foreign image search is traced": (
        "adapted", lambda patch: patch.setattr(adapter, "untraced", contextlib.nullcontext), {"callbacks", "langsmith"},
    ),
    "the first event repeats the input": ("foreign", lambda patch: patch.delattr(AskGraph, "astream_events"), {"v2"}),
}  # fmt: skip
"""Name -> policy, what lets bytes through, and where they must be found."""
STORES: list[ImageStore] = []
"""The store of the mutated run."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if "policy" in name else pytest.mark.slow) for name in MUTATIONS],
)
async def test_bytes_that_are_let_through_are_found(
    name: str, make: Make, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, mutate, places = MUTATIONS[name]
    run = make("search_agent", policy)
    STORES.append(run.store)
    with monkeypatch.context() as patch:
        mutate(patch)
        found = await sinks(run)
    pictures = await run.pictures()
    assert {sink for sink, things in found.items() if pictures.leaks(things)} >= places
