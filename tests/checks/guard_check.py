"""Hostile addresses and hosts that the guard must refuse, and honest ones that it must not: `python tests/checks guard`.

No network is needed: names are looked up in a table, and connections to public addresses end at a small server on the loopback
address that plays hostile and honest hosts, so that every line of the guard runs as it does on the web. Each case counts the
connections that were opened: a refused address must have caused none.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import guard_pdfs
from PIL import Image

from lensgraph.tools import guard
from lensgraph.tools.pages.fetch import extract
from lensgraph.tools.results import ToolFailure

PUBLIC = "93.184.215.14"
"""A public address, played by the server here."""
TIMEOUT = 2.0
MAX_BYTES = 1_000_000
"""Cap of the bodies in these cases."""

ADDRESSES: tuple[str, ...] = (
    # loopback, as written and in every other spelling
    "http://127.0.0.1/", "http://127.8.8.8/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.1/", "http://0x7f.0x0.0x0.0x1/", "http://017700000001/", "http://0177.0.0.1/", "http://0177.0.0.01/",
    "http://127.0.0.1./", "http://0/", "http://0.0.0.0/", "http://00000000/", "http://4294967295/",
    "http://\uff11\uff12\uff17.0.0.1/", "http://127\u30020\u30020\u30021/", "http://%31%32%37.0.0.1/",
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://api.localhost/",
    # private, shared, link-local, reserved, multicast
    "http://10.0.0.1/", "http://172.16.3.4/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/",
    "http://169.254.1.1/", "http://192.0.0.8/", "http://192.0.2.1/", "http://198.18.0.1/", "http://198.51.100.7/",
    "http://203.0.113.9/", "http://224.0.0.1/", "http://240.0.0.1/", "http://255.255.255.255/", "http://0xA9FEA9FE/",
    "http://3232235777/", "http://012.0.0.1/",
    # the inside of a cloud
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/", "http://100.100.100.200/latest/",
    "http://168.63.129.16/", "http://metadata.google.internal/", "http://metadata/", "http://192.0.0.192/opc/v1/",
    # IPv6, and IPv4 inside it
    "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
    "http://[::ffff:169.254.169.254]/", "http://[::127.0.0.1]/", "http://[::7f00:1]/", "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::10.0.0.1]/", "http://[64:ff9b:1::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2002:a00:1::1]/",
    "http://192.88.99.1/", "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", "http://[2600:1f00::5efe:7f00:1]/",
    "http://[2600:1f00::200:5efe:a00:1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fc00::1]/",
    "http://[fec0::1]/", "http://[ff02::1]/", "http://[2001:db8::1]/", "http://[100::1]/", "http://[3fff::1]/",
    "http://[2001:10::1]/", "http://[5f00::1]/", "http://[::ffff:0:127.0.0.1]/", "http://[::ffff:0:a9fe:a9fe]/",
    "http://[64:ff9b:2::7f00:1]/", "http://[4000::1]/", "http://[e000::1]/", "http://[::2:7f00:1]/",
    # names of an inner network, and public names that stand for inner addresses
    "http://printer.local/", "http://wiki.corp/", "http://router.lan/", "http://db.home.arpa/", "http://intranet/",
    "http://private.example.com/", "http://mapped.example.com/", "http://six.example.com/", "http://mixed.example.com/",
    # schemes, ports and users
    "file:///etc/passwd", "ftp://example.com/x", "gopher://example.com/", "dict://example.com:11211/", "javascript:alert(1)",
    "data:text/html,x", "//example.com/", "http:///nohost", "http://example.com:22/", "http://example.com:6379/",
    "https://example.com:8443/", "http://user:secret@example.com/", "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/", "http://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://xn--/",
)  # fmt: skip
"""Each must be refused before anything is connected to."""

NAMES: dict[str, list[tuple[str, ...]]] = {
    "example.com": [(PUBLIC,)],
    "www.example.com": [(PUBLIC,)],
    "xn--strae-oqa.example.com": [(PUBLIC,)],
    "private.example.com": [("10.0.0.5",)],
    "mapped.example.com": [("::ffff:127.0.0.1",)],
    "six.example.com": [("2002:7f00:1::1",)],
    "mixed.example.com": [(PUBLIC, "192.168.0.9")],
    "rebind.example.com": [(PUBLIC,), ("127.0.0.1",)],
    "late.example.com": [(PUBLIC,), (PUBLIC,), ("169.254.169.254",)],
    "flip.example.com": [("127.0.0.1",), (PUBLIC,)],
    "dual.example.com": [(PUBLIC, "fd00::1")],
}
"""Addresses of a name at the first look-up, the second, and so on; the last entry serves all further ones."""


def _png(width: int, height: int) -> bytes:
    """A header of any size with almost nothing behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, kind)
    return buffer.getvalue()


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """An answer of the server as it goes over the wire. `length` None: none is announced."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def to(where: str) -> bytes:
    """A redirect."""
    return answer(b"", f"Location: {where}", status="302 Found")


def chunked(*parts: bytes, header: str = "X-None: -") -> bytes:
    """An answer in pieces without a length."""
    pieces = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\n{header}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + pieces


GZIP, DEFLATE = "Content-Encoding: gzip", "Content-Encoding: deflate"
_ZEROS = b"\0" * 20_000_000


def _nested_gzip() -> bytes:
    return gzip.compress(gzip.compress(_ZEROS))


Host = Callable[[str], bytes | Iterator[bytes]]
"""A host's answer to a path: the bytes, or pieces with a pause between them."""


def _drip() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    yield from itertools.repeat(b".", 1000)


@dataclass(frozen=True)
class Trick:
    """A hostile host."""

    name: str
    """The trick in a few words."""
    host: Host
    """Its answers."""
    url: str = "http://example.com/"
    """Address that is asked for."""
    look: bool = False
    """Ask for a picture."""
    read: bool = False
    """Ask for the words, as the page reader does."""
    reasons: tuple[str, ...] = ("refused",)
    """Reasons that the failure may have."""


def _after(path: str, first: bytes, then: bytes = b"") -> Host:
    return lambda asked: first if asked == path else then


TRICKS: tuple[Trick, ...] = (
    Trick("redirect to the metadata address", lambda _: to("http://169.254.169.254/latest/meta-data/")),
    Trick("redirect to loopback", lambda _: to("http://127.0.0.1/")),
    Trick("redirect to loopback in decimal", lambda _: to("http://2130706433/")),
    Trick("redirect to loopback inside 6to4", lambda _: to("http://[2002:7f00:1::]/")),
    Trick("redirect without a scheme to a private address", lambda _: to("//10.0.0.1/")),
    Trick("redirect to a public name with a private address", lambda _: to("http://private.example.com/")),
    Trick("redirect to a file", lambda _: to("file:///etc/passwd")),
    Trick("redirect to ftp", lambda _: to("ftp://example.com/x")),
    Trick("redirect to another service's port", lambda _: to("http://example.com:6379/")),
    Trick("redirect with a user name", lambda _: to("http://a:b@example.com/")),
    Trick("redirect at the second step", _after("/", to("/two"), to("http://192.168.1.1/"))),
    Trick("redirect without end", lambda _: to("/again")),
    Trick("redirect in a circle of two", _after("/a", to("/b"), to("/a")), url="http://example.com/a"),
    Trick("name that turns private at a redirect to itself", lambda _: to("/two"), url="http://rebind.example.com/"),
    Trick("name that turns private at the third step", lambda _: to("/more"), url="http://late.example.com/"),
    Trick("name that is private first", lambda _: answer(b"x"), url="http://flip.example.com/"),
    Trick("name with a private address among public ones", lambda _: answer(b"x"), url="http://mixed.example.com/"),
    Trick("name with a private IPv6 address beside a public one", lambda _: answer(b"x"), url="http://dual.example.com/"),
    Trick("gzip bomb", lambda _: answer(gzip.compress(_ZEROS), GZIP)),
    Trick("gzip bomb without a length", lambda _: chunked(gzip.compress(_ZEROS), header=GZIP)),
    Trick("gzip bomb of several members", lambda _: answer(gzip.compress(b"\0" * 400_000) * 50, GZIP)),
    Trick("deflate bomb", lambda _: answer(zlib.compress(_ZEROS), DEFLATE)),
    Trick("gzip in gzip", lambda _: answer(_nested_gzip(), "Content-Encoding: gzip, gzip")),
    Trick("brotli, which was not asked for", lambda _: answer(b"\x8b\x00\x80", "Content-Encoding: br")),
    Trick("zstd, which was not asked for", lambda _: answer(b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd")),
    Trick("body over the cap, announced", lambda _: answer(b"x", length=10**12)),
    Trick("body over the cap, unannounced", lambda _: answer(b"x" * 2_000_000, length=None)),
    Trick("body over the cap, in pieces", lambda _: chunked(*[b"x" * 100_000] * 20)),
    Trick("body that drips", lambda _: _drip(), reasons=("timeout",)),
    Trick("headers without end", lambda _: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, reasons=("unavailable",)),
    Trick("archive called a page", lambda _: answer(b"PK\x03\x04" + bytes(100), "Content-Type: text/html")),
    Trick("program called a page", lambda _: answer(b"\x7fELF" + bytes(100), "Content-Type: text/html")),
    Trick("picture of 900 million pixels", lambda _: answer(_png(30_000, 30_000)), look=True, reasons=("bad_input",)),
    Trick("picture of 90 million pixels", lambda _: answer(_png(9_500, 9_500)), look=True, reasons=("bad_input",)),
    Trick("PDF that unpacks to 4 GiB", lambda _: answer(guard_pdfs.four_gigabytes()), read=True),
    Trick("PDF whose page list unpacks to 300 MiB", lambda _: answer(guard_pdfs.object_streams()), read=True),
    Trick("PDF with a page of three million steps", lambda _: answer(guard_pdfs.endless_program()), read=True),
    Trick("PDF that draws a form in a form, a trillion times", lambda _: answer(guard_pdfs.forms_in_forms()), read=True),
    Trick("PDF that lists one page 100,000 times", lambda _: answer(guard_pdfs.one_page_again()), read=True),
    Trick("page of 200,000 empty lines", lambda _: answer(b"<html>" + b"<br>" * 200_000), read=True, reasons=("empty",)),
    Trick("page called a picture", lambda _: answer(b"<html><script>", "Content-Type: image/png"), look=True),
    Trick("SVG, which is a program, as a picture", lambda _: answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), look=True),
)  # fmt: skip
"""Each must end with its reason, and reach no address but the public one."""


@dataclass(frozen=True)
class Honest:
    """An ordinary host."""

    name: str
    """Its particularity in a few words."""
    host: Host
    url: str = "http://example.com/"
    look: bool = False
    read: bool = False
    secure: bool = False
    """True: it ends on https."""


_PAGE = b"<!doctype html><html><title>t</title><p>words</html>"
HONEST: tuple[Honest, ...] = (
    Honest("a page", lambda _: answer(_PAGE, "Content-Type: text/html; charset=utf-8")),
    Honest("a page over https", lambda _: answer(_PAGE), url="https://www.example.com/wiki/Kestrel?x=1#part", secure=True),
    Honest("a capital scheme and host", lambda _: answer(_PAGE), url="HTTP://WWW.EXAMPLE.COM/"),
    Honest("its own port", lambda _: answer(_PAGE), url="http://example.com:80/"),
    Honest("a dot at the end", lambda _: answer(_PAGE), url="http://example.com./"),
    Honest("an international name", lambda _: answer(_PAGE), url="http://stra\u00dfe.example.com/stra\u00dfe"),
    Honest("an @ in the path", lambda _: answer(_PAGE), url="http://example.com/@user/127.0.0.1"),
    Honest("an address in the query", lambda _: answer(_PAGE), url="http://example.com/?to=http://127.0.0.1/"),
    Honest("a public IPv4 address", lambda _: answer(_PAGE), url=f"http://{PUBLIC}/"),
    Honest("a public IPv6 address", lambda _: answer(_PAGE), url="http://[2606:4700::1111]/"),
    Honest("a packed page", lambda _: answer(gzip.compress(_PAGE * 50), GZIP)),
    Honest("a deflated page", lambda _: answer(zlib.compress(_PAGE), DEFLATE)),
    Honest("a page in pieces", lambda _: chunked(_PAGE[:20], _PAGE[20:])),
    Honest("a page without a length", lambda _: answer(_PAGE, length=None)),
    Honest("a moved page", _after("/", to("http://www.example.com/new"), answer(_PAGE))),
    Honest("a page moved to https", _after("/a", to("https://example.com/a")), url="http://example.com/a", secure=True),
    Honest("plain text", lambda _: answer(b"User-agent: *\nDisallow:\n", "Content-Type: text/plain")),
    Honest("a PDF without a type", lambda _: answer(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")),
    Honest("a PDF that is read", lambda _: answer(guard_pdfs.words()), read=True),
    Honest("JSON", lambda _: answer(b'{"a": 1}', "Content-Type: application/json")),
    Honest("a page of almost the cap", lambda _: answer(b"<html>" + b"x" * 900_000)),
    Honest("a PNG", lambda _: answer(_picture()), look=True),
    Honest("a JPEG called octets", lambda _: answer(_picture("JPEG"), "Content-Type: application/octet-stream"), look=True),
    Honest("a WebP behind a redirect", _after("/", to("/real"), answer(_picture("WEBP"))), look=True),
)  # fmt: skip
"""None of these may be refused."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case."""

    name: str
    passed: bool
    said: str
    """The guard's message; empty if it let the host through."""


class Wire:
    """The names and addresses of this little internet, and the connections that were opened."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self._asked: dict[str, int] = {}
        self._host: Host = lambda _: b""
        self._port = 0

    def play(self, host: Host) -> None:
        """Be this host from now on, for all names."""
        self._host = host
        self.connected.clear()
        self._asked.clear()

    async def look_up(self, host: Any, port: Any, **options: Any) -> list[tuple[Any, ...]]:
        """Names from the table, addresses as the system reads them."""
        name = (host.decode() if isinstance(host, bytes) else str(host)).rstrip(".").lower()
        if name not in NAMES:
            flags = socket.AI_NUMERICHOST
            return list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags))
        asked = self._asked[name] = self._asked.get(name, -1) + 1
        found = NAMES[name][min(asked, len(NAMES[name]) - 1)]
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            given = self._host(request.split(b" ", 2)[1].decode())
            for piece in [given] if isinstance(given, bytes) else given:
                writer.write(piece)
                await writer.drain()
                if not isinstance(given, bytes):
                    await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the guard hung up
        finally:
            writer.close()


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    """Within, the running loop looks names up in the table, and public addresses are played by the server here."""
    loop, wire = asyncio.get_running_loop(), Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connect, getaddrinfo = loop.create_connection, loop.getaddrinfo

    async def rerouted(protocol: Any, host: Any = None, to_port: Any = None, **options: Any) -> Any:
        wire.connected.append(str(host))
        if to_port == 443:
            raise ConnectionRefusedError("the server here speaks no TLS")
        return await connect(protocol, "127.0.0.1", port)

    overridden: Any = loop
    overridden.create_connection, overridden.getaddrinfo = rerouted, wire.look_up
    try:
        yield wire
    finally:
        overridden.create_connection, overridden.getaddrinfo = connect, getaddrinfo
        server.close()
        await server.wait_closed()


async def try_address(wire: Wire, url: str) -> Outcome:
    """A URL that must be refused with no connection made."""
    wire.play(lambda _: answer(b"reached"))
    try:
        await guard.fetch(url, timeout=TIMEOUT)
    except guard.Refused as refused:
        said = str(refused)
        return Outcome(url, not wire.connected and "\n" not in said and "secret" not in said, said)
    except ToolFailure as failure:
        return Outcome(url, False, f"{failure.reason}: {failure}")
    return Outcome(url, False, "")


async def try_trick(wire: Wire, trick: Trick) -> Outcome:
    """A hostile host that must end with its reason, and with connections to the public address only."""
    made = trick.host("/") if trick.read else b""  # writing such a file takes seconds, and the guard's clock is short
    wire.play((lambda _: made) if trick.read else trick.host)
    try:
        await _ask(trick.url, trick.look, trick.read)
    except ToolFailure as failure:
        safe = set(wire.connected) <= {PUBLIC}
        return Outcome(trick.name, safe and failure.reason in trick.reasons, f"{failure.reason}: {failure}")
    return Outcome(trick.name, False, "")


async def try_honest(wire: Wire, honest: Honest) -> Outcome:
    """An honest host, which must be let through."""
    wire.play(honest.host)
    try:
        await _ask(honest.url, honest.look, honest.read)
    except ToolFailure as failure:
        # Over https, all that can be seen here is that the connection was allowed.
        reached = honest.secure and failure.reason == "unavailable" and wire.connected[-1:] == [PUBLIC]
        return Outcome(honest.name, reached, f"{failure.reason}: {failure}")
    return Outcome(honest.name, bool(wire.connected), "")


async def _ask(url: str, look: bool, read: bool) -> None:
    want = guard.PICTURE if look else guard.PAGE
    found = await guard.get(url, max_bytes=MAX_BYTES, timeout=TIMEOUT, want=want)
    if look:
        await guard.load_image(found.body)
    if read:
        _, text = await asyncio.to_thread(extract, found)
        if not text:
            raise ToolFailure("empty", "it holds no text")


def report(outcomes: dict[str, list[Outcome]], *, everything: bool) -> str:
    """The counts, and the cases that failed."""
    lines = []
    for kind, cases in outcomes.items():
        lines.append(f"{kind}: {sum(case.passed for case in cases)} of {len(cases)}")
        lines += [
            f"  {'ok  ' if case.passed else 'FAIL'} {case.name}  {case.said}".rstrip()
            for case in cases
            if everything or not case.passed
        ]
    return "\n".join(lines)


async def run() -> dict[str, list[Outcome]]:
    """All cases, kind by kind."""
    async with wired() as wire:
        return {
            "addresses refused": [await try_address(wire, url) for url in ADDRESSES],
            "tricks refused": [await try_trick(wire, trick) for trick in TRICKS],
            "honest let through": [await try_honest(wire, honest) for honest in HONEST],
        }
