"""Our own fetcher, before a web site."""

from __future__ import annotations

import urllib.parse

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request

ARTICLE = (
    "<!DOCTYPE html><html><head><title>Kenya</title></head><body><nav><a href='/'>Home</a></nav><article><h1>Kenya</h1>"
    "<p>The national anthem of Kenya is Ee Mungu Nguvu Yetu, which was adopted when the country became independent.</p>"
    "<p>It was one of the first anthems that was written by a commission, in the year 1963.</p></article>"
    "<footer>All rights reserved</footer></body></html>"
)
ROBOTS = "User-agent: *\nDisallow: /private/\n"


def _works(request: Request) -> Answer:
    return Answer(ROBOTS) if request.path == "/robots.txt" else Answer(ARTICLE)


def _refuses(request: Request, key: str) -> Answer | None:
    if request.path not in ("/robots.txt", "/kenya"):
        return Answer("<html>Not found</html>", status=404)
    return None


PROVIDER = Provider(
    name="fetch",
    kind="read_page",
    documents="RFC 9110 (Retry-After), RFC 9309 (robots.txt)",
    options=lambda url: {"allow_networks": ["127.0.0.0/8"], "allow_ports": [urllib.parse.urlsplit(url).port]},
    ask=lambda url: {"url": f"{url}/kenya"},
    works=_works,
    empty=Answer("<!DOCTYPE html><html><head><title>Nothing</title></head><body><script>draw()</script></body></html>"),
    refuses=_refuses,
    busy=Answer("<html>Too many requests</html>", status=429),
    broken=Answer("<html>Error</html>", status=503),
    malformed=(Answer(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), Answer(b"%PDF-1.7 broken"), Answer(b"\x00" * 100)),
    size_option="max_page_bytes",
    fast={"requests_per_second": 1000},
    counts=lambda request: request.path != "/robots.txt",
    too_large="refused",
)
