"""Wikipedia's api.php."""

from __future__ import annotations

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request


def _works(request: Request) -> Answer:
    kenya = {
        "pageid": 188171, "ns": 0, "title": "Ee Mungu Nguvu Yetu", "index": 1, "contentmodel": "wikitext",
        "extract": "\"Ee Mungu Nguvu Yetu\" is the national anthem of Kenya.\nIt was adopted in 1963.",
        "fullurl": "https://en.wikipedia.org/wiki/Ee_Mungu_Nguvu_Yetu",
    }  # fmt: skip
    # In the order of page ids, as a generator gives them; `index` is the rank.
    other = {
        "pageid": 1033, "ns": 0, "title": "Kenya", "index": 2, "extract": "Kenya is a country in East Africa.",
        "fullurl": "https://en.wikipedia.org/wiki/Kenya",
    }  # fmt: skip
    return Answer({"batchcomplete": True, "query": {"pages": [other, kenya]}})


def _refuses(request: Request, key: str) -> Answer | None:
    wanted = {
        "action": "query", "format": "json", "formatversion": "2", "generator": "search", "explaintext": "1", "exintro": "1",
    }  # fmt: skip
    if request.path != "/w/api.php":
        return Answer("<html>Wikimedia Error</html>", status=404)
    if not request.headers.get("user-agent", "").startswith("lensgraph/"):
        return Answer("Please set a user-agent and respect our robot policy", status=403)
    if any(request.query.get(name) != value for name, value in wanted.items()):
        return Answer("<html>MediaWiki API help</html>")
    if not request.query.get("gsrsearch"):
        said = {"code": "missingparam", "info": 'The "gsrsearch" parameter must be set.'}
        return Answer({"error": said}).with_headers(MediaWiki_API_Error="missingparam")
    return None


PROVIDER = Provider(
    name="wikipedia",
    kind="text_search",
    documents=(
        "mediawiki.org: API:Search (list=search, usable as generator), API:Errors_and_warnings (formatversion 2), "
        "Wikimedia_APIs/Access_policy (user agent)"
    ),
    options=lambda url: {"api_url": f"{url}/w/api.php"},
    works=_works,
    empty=Answer({"batchcomplete": True}),
    refuses=_refuses,
    busy=Answer("<html>Too many requests</html>", status=429),
    broken=Answer("<!DOCTYPE html><html><title>Wikimedia Error</title></html>", status=503),
    malformed=(
        Answer("<html>MediaWiki API help</html>"),
        Answer('{"batchcomplete": true, "query": {"pag'),
        Answer([]),
        Answer({"query": {"pages": {"188171": {}}}}),  # format version 1
    ),
    fast={"requests_per_second": 1000},
)
