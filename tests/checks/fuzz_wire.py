"""The network between this process and a server, as bytes: in memory below httpx, or over a socket of this machine.

Invariant: what a client reads is what a real connection would give it, so HTTP itself can be wrong: its framing, lengths,
headers and encodings.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpcore
import httpx
from pictures_fuzz import mutate

Reply = Callable[[bytes], bytes]
"""The bytes that answer a request."""
STATUSES = (
    200,
    200,
    200,
    200,
    200,
    200,
    201,
    202,
    204,
    206,
    301,
    304,
    307,
    400,
    401,
    402,
    403,
    404,
    408,
    413,
    422,
    425,
    429,
)
STATUSES += (432, 500, 502, 503, 504, 529, 599)
ODD_HEADERS = (
    "Retry-After: {}", "Location: {}", "Set-Cookie: {}", "Content-Type: {}", "Content-Encoding: {}", "Date: {}", "X: {}",
)  # fmt: skip
ODD_WORDS = (
    "0", "7", "-1", "1e9", "nan", "inf", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "Mon, 99 Foo 99999 99:99:99 GMT", "", "gzip",
    "deflate", "br", "identity", "text/html; charset=utf-16", "application/json; charset=no-such", "http://[", "//", "\xff",
    "text/event-stream", "x" * 300, "data:,x", "http://127.0.0.1:1/",
)  # fmt: skip


def http(body: bytes, content_type: str, chance: random.Random, *, honest: bool = False) -> bytes:
    """An answer with this body; unless `honest`, something about its framing may be wrong."""
    status, headers = 200, [f"Content-Type: {content_type}", "Connection: close"]
    if not honest and chance.random() < 0.25:
        status = chance.choice(STATUSES)
    if not honest and chance.random() < 0.1:
        body = chance.choice((zlib.compress(body), body))
        headers.append("Content-Encoding: " + chance.choice(("gzip", "deflate", "br", "identity")))
    if not honest and chance.random() < 0.15:
        headers.append(chance.choice(ODD_HEADERS).format(chance.choice(ODD_WORDS)))
    length, framed = str(len(body)), body
    kind = (
        "honest"
        if honest or chance.random() < 0.7
        else chance.choice(("long", "short", "odd", "none", "chunked", "cut"))
    )
    match kind:
        case "long":
            length = str(len(body) + chance.randint(1, 100))
        case "short":
            length = str(max(0, len(body) - chance.randint(1, 100)))
        case "odd":
            length = chance.choice(("-1", "x", "", "1 2", "9" * 30, "+5"))
        case "cut":
            framed = body[: chance.randint(0, len(body))]
    if kind == "chunked":
        size = max(1, len(body) // 3)
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        framed = framed if chance.random() < 0.5 else mutate(framed, chance)
        headers.append("Transfer-Encoding: chunked")
    elif kind != "none":
        headers.append(f"Content-Length: {length}")
    head = f"HTTP/1.1 {status} Fuzzed\r\n" + "".join(f"{header}\r\n" for header in headers) + "\r\n"
    answer = head.encode("latin-1") + framed
    return mutate(answer, chance) if not honest and chance.random() < 0.05 else answer


class _Stream(httpcore.AsyncNetworkStream):
    """One connection: a request that was written is answered, and then the server hangs up."""

    def __init__(self, reply: Reply) -> None:
        self._reply, self._asked, self._answer = reply, b"", b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._asked += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._asked:
            self._answer, self._asked = self._reply(self._asked), b""
        part, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return part

    async def aclose(self) -> None:
        """Nothing is open."""

    async def start_tls(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(self._reply)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@contextlib.contextmanager
def in_memory(reply: Reply) -> Iterator[None]:
    """Let every httpx client that is made in the block be answered by `reply`."""
    real = httpx.AsyncHTTPTransport.__init__

    def patched(self: httpx.AsyncHTTPTransport, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        self._pool._network_backend = _Backend(reply)

    httpx.AsyncHTTPTransport.__init__ = patched  # type: ignore[method-assign]
    try:
        yield
    finally:
        httpx.AsyncHTTPTransport.__init__ = real  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def on_a_socket(reply: Reply) -> AsyncIterator[int]:
    """Answer with `reply` on a port of this machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            writer.write(reply(head + body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**26)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
