"""DuckDuckGo's page without JavaScript."""

from __future__ import annotations

import urllib.parse

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request

CHALLENGE = (
    '<html><body><form id="challenge-form" action="//duckduckgo.com/anomaly.js?sv=html" method="POST">'
    '<div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div></form></body></html>'
)


def result(title: str, href: str, snippet: str) -> str:
    """One result as the page shows it."""
    return (
        '<div class="result results_links results_links_deep web-result "><div class="links_main links_deep result__body">'
        f'<h2 class="result__title"><a rel="nofollow" class="result__a" href="{href}">{title}</a></h2>'
        f'<div class="result__extras"><a class="result__url" href="{href}">example.org</a></div>'
        f'<a class="result__snippet" href="{href}">{snippet}</a><div class="clear"></div></div></div>'
    )


def page(*results: str) -> str:
    """A page of results."""
    return f'<!DOCTYPE html><html><body><div id="links" class="results">{"".join(results)}</div></body></html>'


def _wrapped(url: str) -> str:
    return f"//duckduckgo.com/l/?uddg={urllib.parse.quote(url, safe='')}&amp;rut=45614ef7"


def _works(request: Request) -> Answer:
    advert = "https://duckduckgo.com/y.js?ad_provider=bingv7aa&amp;u3=https%3A%2F%2Fwww.bing.com%2Faclick"
    return Answer(
        page(
            result("Buy anthems", advert, "Cheap"),
            result(
                "Kenya", _wrapped("https://example.org/kenya?a=1&b=2"), "Its <b>national anthem</b> is &quot;Ee&quot;."
            ),
            result("Anthems", "https://example.org/anthems", "A list."),
        )
    )


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("POST", "/html/"):
        return Answer("<html>not here</html>", status=404)
    form = request.form
    if not 0 < len(form.get("q", "")) < 500 or form.get("b") != "" or not form.get("kl"):
        return Answer(CHALLENGE, status=202)
    return None


PROVIDER = Provider(
    name="duckduckgo",
    kind="text_search",
    documents="no document exists; the form and the page as searx/engines/duckduckgo.py and ddgs 9.16 send and read them",
    options=lambda url: {"base_url": url},
    works=_works,
    empty=Answer(page('<div class="result result--no-result"><div class="no-results">No results found.</div></div>')),
    refuses=_refuses,
    busy=Answer("<html>Too many requests</html>", status=429),
    broken=Answer("<html>Error</html>", status=503),
    malformed=(Answer("<html><body>A new layout</body></html>"), Answer("\x00\x01"), Answer({"results": []})),
    fast={"requests_per_second": 1000},
)
