"""Spans follow OpenTelemetry's conventions for generative AI: one for the agent, each chat and each tool, in the right place."""

import asyncio
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.policy.errors import PolicyError
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.graphs import search_agent, table

ASKED = {"question": "When was it automated?", "images": [Image.new("RGB", (64, 48), "teal")]}
TURNS = ["<img_search>the tower</img_search>", "<text_search>tower</text_search>", "<answer>1987</answer>"]


def named(spans: Any) -> dict[str, ReadableSpan]:
    """The spans that have ended, by their names."""
    return {span.name: span for span in spans.get_finished_spans()}


def parent(span: ReadableSpan) -> int | None:
    """The id of a span's parent."""
    return span.parent.span_id if span.parent else None


async def test_a_question_is_a_tree_in_the_applications_own_trace(spans: Any, chat_server: Callable[..., Any]) -> None:
    server = chat_server("vllm")
    server.says = lambda body: TURNS[sum(message["role"] == "assistant" for message in body["messages"])]
    policy = OpenAICompatiblePolicy(model="Qwen/Qwen2.5-VL-7B-Instruct", base_url=server.url)
    search = testing.FixedImage(price_per_call=0.01)
    context = testing.context([], policy=policy, image_search=search)
    graph = search_agent.build(InMemorySaver())
    tracer = spans.provider.get_tracer("application")
    with tracer.start_as_current_span("request") as around:
        await graph.ainvoke(ASKED, {"configurable": {"thread_id": "7"}}, context=context)
    found = named(spans)
    agent, chat, searched = (
        found["invoke_agent search_agent"], found["chat Qwen/Qwen2.5-VL-7B-Instruct"], found["execute_tool image_search"],
    )  # fmt: skip
    assert parent(agent) == around.get_span_context().span_id
    inside = [span for span in spans.get_finished_spans() if span.name.startswith(("chat", "execute_tool"))]
    assert [span.name.split()[0] for span in sorted(inside, key=lambda span: span.start_time or 0)] == [
        "chat", "execute_tool", "execute_tool", "chat", "execute_tool", "chat",
    ]  # fmt: skip
    assert {parent(span) for span in inside} == {agent.context.span_id}
    assert dict(agent.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "search_agent",
        "gen_ai.conversation.id": "7",
        "gen_ai.usage.input_tokens": 121,
        "gen_ai.usage.output_tokens": sum(map(len, TURNS)) + len(TURNS),  # each with its end
        "lensgraph.price": 0.01,
        "lensgraph.stop_reason": "answered",
    }
    told = dict(chat.attributes or {})
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "lensgraph-openai-compatible"
    assert told["gen_ai.request.model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.response.finish_reasons"]) == (47, ("stop",))
    assert (searched.attributes or {})["gen_ai.tool.name"] == "image_search"
    assert (searched.attributes or {})["lensgraph.price"] == 0.01
    assert "tower" not in str([span.to_json() for span in inside]), "no content unless it is asked for"


@pytest.mark.parametrize("graph", ["search_agent", "rag", "direct"])
def test_callers_without_an_event_loop_get_the_same_tree(graph: str, spans: Any) -> None:
    turns = TURNS if graph == "search_agent" else TURNS[1:] if graph == "rag" else TURNS[2:]
    with spans.provider.get_tracer("application").start_as_current_span("request") as around:
        table.find(graph).invoke(ASKED, context=testing.context(turns))
    agent = named(spans)[f"invoke_agent {graph}"]
    assert parent(agent) == around.get_span_context().span_id
    inside = [span for span in spans.get_finished_spans() if span.name.startswith(("chat", "execute_tool"))]
    assert {parent(span) for span in inside} == {agent.context.span_id}


async def test_two_questions_at_once_are_two_trees(spans: Any) -> None:
    graph = search_agent.graph
    await asyncio.gather(*(graph.ainvoke(ASKED, context=testing.context(TURNS)) for _ in range(8)))
    agents = [span for span in spans.get_finished_spans() if span.name.startswith("invoke_agent")]
    assert len({span.context.trace_id for span in agents}) == 8
    for agent in agents:
        tree = [span for span in spans.get_finished_spans() if span.context.trace_id == agent.context.trace_id]
        assert len(tree) == 7
        assert {parent(span) for span in tree if span is not agent} == {agent.context.span_id}


async def test_failures_are_named_where_they_happened(spans: Any) -> None:
    def fail(messages: Any) -> str:
        raise PolicyError("http://127.0.0.1:1: connection refused")

    await search_agent.graph.ainvoke(ASKED, context=testing.context(fail))
    found = named(spans)
    chat, agent = found["chat script"], found["invoke_agent search_agent"]
    assert chat.status.status_code is StatusCode.ERROR
    assert str((chat.attributes or {})["error.type"]).endswith("PolicyError")
    assert (agent.attributes or {})["lensgraph.stop_reason"] == "policy_failed"
    spans.clear()
    await search_agent.graph.ainvoke(ASKED, context=testing.context(TURNS[1:], text_search=testing.FixedText(hits=[])))
    assert (named(spans)["execute_tool text_search"].attributes or {})["error.type"] == "unavailable"


class Open(SpanProcessor):
    """Counts the spans that have begun and not ended."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.names.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.names.remove(span.name)


async def test_a_run_that_waits_or_is_cancelled_leaves_no_span_open(spans: Any) -> None:
    opened = Open()
    spans.provider.add_span_processor(opened)

    @tool
    def ask_first(query: str) -> str:
        """Search once a person has agreed."""
        return f"found by {interrupt('may I?')}"

    graph, config = search_agent.build(InMemorySaver()), {"configurable": {"thread_id": "1"}}
    context = testing.context(TURNS[1:], text_search=ask_first)
    await graph.ainvoke(ASKED, config, context=context)  # type: ignore[arg-type]
    assert opened.names == []
    waiting = named(spans)["invoke_agent search_agent"]
    assert "lensgraph.stop_reason" not in (waiting.attributes or {})
    await graph.ainvoke(Command(resume="yes"), config, context=context)  # type: ignore[arg-type]
    assert opened.names == []
    ended = named(spans)["invoke_agent search_agent"]
    assert (ended.attributes or {})["lensgraph.stop_reason"] == "answered"
    assert (ended.attributes or {})["gen_ai.conversation.id"] == "1"

    begun = asyncio.Event()

    class Slow(testing.FixedText):
        async def asearch(self, query: str) -> Any:
            begun.set()
            await asyncio.sleep(30)

    running = asyncio.create_task(
        search_agent.graph.ainvoke(ASKED, context=testing.context(TURNS[1:], text_search=Slow()))
    )
    await begun.wait()
    assert "execute_tool text_search" in opened.names
    running.cancel()
    await asyncio.wait([running])
    assert opened.names == []


def test_the_three_lines_of_the_page_send_them_to_a_collector(
    repository: Path, collector: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository / "graphs" / "howto" / "otel.md").read_text("utf-8")
    blocks = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL))
    for name in ("traced.py", "ask.py"):
        (tmp_path / name).write_text(blocks[name], "utf-8")
    server = collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        runpy.run_path(str(tmp_path / "ask.py"))
        sys.modules["traced"].provider.shutdown()
    finally:
        LangChainInstrumentor().uninstrument()
        sys.modules.pop("traced", None)
    assert {path for path, _ in server.requests} == {"/v1/traces"}
    sent = [ExportTraceServiceRequest.FromString(body) for _, body in server.requests]
    found = {
        span.name: {pair.key: pair.value for pair in span.attributes}
        for one in sent for group in one.resource_spans for scope in group.scope_spans for span in scope.spans
    }  # fmt: skip
    assert set(found) == {
        "invoke_agent search_agent",
        "chat script",
        "execute_tool locate",
        "execute_tool image_search",
    }
    assert found["chat script"]["gen_ai.request.model"].string_value == "script"
    assert found["execute_tool locate"]["lensgraph.price"].double_value == 0.0
