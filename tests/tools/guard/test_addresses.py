"""Only checked public addresses are connected to; redirects, names and odd spellings change nothing."""

import asyncio
import contextlib
import gzip
import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lensgraph.tools import guard
from lensgraph.tools.results import ToolFailure

Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(respond: Respond) -> Iterator[tuple[str, guard.FetchPolicy, list[str]]]:
    """A server on the loopback address, and a policy that allows exactly it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.headers['Host']} {self.path}")
            respond(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    policy = guard.FetchPolicy(ports=frozenset({port}), networks=(ipaddress.ip_network("127.0.0.0/8"),))
    try:
        yield f"http://127.0.0.1:{port}", policy, asked
    finally:
        server.shutdown()
        server.server_close()


def body(data: bytes, **headers: str) -> Respond:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(data)

    return respond


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "192.88.99.1", "198.18.0.1", "240.0.0.1",
        "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1", "2001:0:808:808::1", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "not an address",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not guard.address_allowed(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert guard.address_allowed(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://localhost./", "http://2130706433/", "http://0x7f000001/",
        "http://017700000001/", "http://127.1/", "http://0/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://[2002:7f00:1::]/", "http://192.88.99.1/", "http://[64:ff9b::7f00:1]/", "http://169.254.169.254/latest/",
        "http://user:secret@127.0.0.1/", "http://8.8.8.8:22/", "http://8.8.8.8:6379/", "ftp://8.8.8.8/x", "file:///notes.txt",
        "gopher://8.8.8.8/", "http:///nohost", "javascript:alert(1)",
    ],
)  # fmt: skip
async def test_dangerous_addresses_are_refused_in_one_line_without_their_secrets(url: str) -> None:
    with pytest.raises(ToolFailure) as caught:
        await guard.fetch(url, timeout=5)
    assert caught.value.reason in ("refused", "unavailable")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_public_page_is_fetched_with_the_name_in_the_host_header() -> None:
    with serving(body(b"hello")) as (url, policy, asked):
        named = url.replace("127.0.0.1", "localhost")
        policy = guard.FetchPolicy(ports=policy.ports, networks=(*policy.networks, ipaddress.ip_network("::1/128")))
        with contextlib.suppress(ToolFailure):  # `localhost` may resolve to ::1 first, where nothing listens
            assert await guard.fetch(named, policy=policy) == b"hello"
            assert asked[0].startswith("localhost:")
        assert await guard.fetch(url, policy=policy) == b"hello"


async def test_a_name_is_resolved_once_and_the_connection_goes_to_the_checked_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rebinding: a second look-up would give another address, so there must be none."""
    lookups: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def fake(host: Any, port: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name == "rebind.test":
            lookups.append(name)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(lookups) == 1 else "10.9.9.9", port))
            ]
        return await real(host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", fake)
    with serving(body(b"ok")) as (url, policy, asked):
        assert await guard.fetch(url.replace("127.0.0.1", "rebind.test"), policy=policy) == b"ok"
    assert lookups == ["rebind.test"]
    assert asked[0].startswith("rebind.test:")


async def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fake(host: Any, port: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fake)
    with pytest.raises(guard.Refused, match=r"mixed\.test: resolves to 10\.0\.0\.1"):
        await guard.fetch("http://mixed.test/", timeout=5)


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "http://127.0.0.1:1/", "file:///notes.txt"]
)
async def test_a_redirect_is_checked_like_a_first_request(target: str) -> None:
    def away(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(away) as (url, policy, _), pytest.raises(ToolFailure) as caught:
        await guard.fetch(url, policy=policy, timeout=5)
    assert caught.value.reason == "refused"


async def test_endless_redirects_end() -> None:
    def round_and_round(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/again")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(round_and_round) as (url, policy, asked), pytest.raises(guard.Refused, match="redirects"):
        await guard.fetch(url, policy=policy)
    assert len(asked) == guard.MAX_REDIRECTS + 1


async def test_a_body_over_the_cap_is_refused_whether_announced_or_not() -> None:
    with serving(body(b"x" * 5000)) as (url, policy, _), pytest.raises(guard.Refused, match="over the cap of 1,000"):
        await guard.fetch(url, policy=policy, max_bytes=1000)

    def unannounced(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b"y" * 1000)

    with serving(unannounced) as (url, policy, _), pytest.raises(guard.Refused, match="over the cap"):
        await guard.fetch(url, policy=policy, max_bytes=1000)


async def test_a_packed_body_is_unpacked_and_a_damaged_one_is_malformed() -> None:
    packed = gzip.compress(b"hello")
    with serving(body(packed, Content_Encoding="gzip")) as (url, policy, _):
        assert await guard.fetch(url, policy=policy) == b"hello"
    for broken in (b"zip", packed[:-6]):
        with serving(body(broken, Content_Encoding="gzip")) as (url, policy, _), pytest.raises(ToolFailure) as caught:
            await guard.fetch(url, policy=policy)
        assert caught.value.reason == "malformed"


async def test_a_dripping_server_runs_into_the_timeout_of_the_whole_call() -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(40):
                handler.wfile.write(b".")
                handler.wfile.flush()
                time.sleep(0.1)

    started = time.perf_counter()
    with serving(drip) as (url, policy, _), pytest.raises(ToolFailure) as caught:
        await guard.fetch(url, policy=policy, timeout=0.5)
    assert caught.value.reason == "timeout"
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (404, "unavailable"), (500, "unavailable")])
async def test_status_codes_become_reasons(status: int, reason: str) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(answer) as (url, policy, _), pytest.raises(ToolFailure) as caught:
        await guard.fetch(url, policy=policy)
    assert caught.value.reason == reason


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name itself, and the check would be about nothing."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(body(b"direct")) as (url, policy, _):
        assert await guard.fetch(url, policy=policy) == b"direct"


@pytest.mark.parametrize("url", [None, 7, b"http://example.com/"])
async def test_what_is_no_text_is_no_address(url: Any) -> None:
    with pytest.raises(guard.Refused, match=f"an address cannot be a {type(url).__name__}; give http"):
        await guard.fetch(url)
