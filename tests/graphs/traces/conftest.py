"""Loopback servers that take traces as LangSmith and a collector of OpenTelemetry do, and a server of chat completions."""

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import zstandard
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ...agent.conftest import chat_server

__all__ = ["chat_server", "collector", "spans"]


class Collector:
    """Keeps what is sent to it: path and decompressed body of every request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.body()
                if body:
                    outer.requests.append((self.path, body))
                data = b"{}"
                self.send_response(200 if self.command == "GET" or "/v1/traces" in self.path else 202)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = answer

            def body(self) -> bytes:
                if self.headers.get("transfer-encoding") == "chunked":
                    data = b""
                    while size := int(self.rfile.readline(), 16):
                        data += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    data = self.rfile.read(int(self.headers.get("content-length") or 0))
                encoding = self.headers.get("content-encoding")
                if encoding == "zstd":
                    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
                return gzip.decompress(data) if encoding == "gzip" else data

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Callable[[], Collector]]:
    """Starts servers that take whatever is sent to them."""
    started: list[Collector] = []

    def start() -> Collector:
        started.append(Collector())
        return started[-1]

    yield start
    for one in started:
        one.http.shutdown()
        one.http.server_close()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """OpenTelemetry's instrumentation of LangChain, turned on; holds the spans that have ended."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    kept.provider = provider  # type: ignore[attr-defined]
    yield kept
    instrumentor.uninstrument()
