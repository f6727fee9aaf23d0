"""A web server on this machine that answers as a service would, and remembers what it was asked."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

CHUNK = 64 * 1024


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    method: str
    path: str
    """Without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """Time of arrival on the monotonic clock, in seconds."""

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    """An answer of the service."""

    body: bytes | str | dict[str, Any] | list[Any] | None = b""
    """Text and bytes as they are, anything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    """Empty: JSON for records, HTML for text that starts with `<`, else plain text."""
    delay: float = 0.0
    """Seconds before anything is sent."""
    repeat: int = 1
    """Times that the body is sent, in chunks without a declared length."""

    def with_headers(self, **headers: str) -> Answer:
        """The same answer with further headers; `_` stands for `-`."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def encoded(self) -> tuple[bytes, str]:
        """The bytes and their type."""
        if isinstance(self.body, bytes):
            return self.body, self.content_type or "application/octet-stream"
        if isinstance(self.body, str):
            kind = "text/html" if self.body.lstrip().startswith("<") else "text/plain"
            return self.body.encode(), self.content_type or f"{kind}; charset=utf-8"
        return json.dumps(self.body).encode(), self.content_type or "application/json"


class Service:
    """A running server: its address, the requests it got, and the bytes it sent."""

    def __init__(self, respond: Callable[[Request], Answer]) -> None:
        self.asked: list[Request] = []
        self.sent = 0
        """Bytes of bodies handed to the network."""
        self.url = ""
        self._respond = respond
        self._stop = threading.Event()

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        request = Request(
            handler.command,
            urllib.parse.unquote(parts.path),
            dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(length),
            time.monotonic(),
        )
        self.asked.append(request)
        answer = self._respond(request)
        if answer.delay and self._stop.wait(answer.delay):
            return
        try:
            self._send(handler, answer)
        except OSError:
            handler.close_connection = True  # the tool hung up: it had enough

    def _send(self, handler: http.server.BaseHTTPRequestHandler, answer: Answer) -> None:
        body, kind = answer.encoded()
        handler.send_response(answer.status)
        handler.send_header("Content-Type", kind)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        if answer.repeat == 1:
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            self.sent += len(body)
        else:
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for _ in range(answer.repeat):
                if self._stop.is_set():
                    return
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
                self.sent += len(body)
            handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def serve(respond: Callable[[Request], Answer]) -> Iterator[Service]:
    """Serve until the block ends."""
    service = Service(respond)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            service._answer(self)

        def do_POST(self) -> None:
            service._answer(self)

        def do_PUT(self) -> None:
            service._answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        service._stop.set()
        server.shutdown()
        server.server_close()
