"""The particulars of each text search: what it sends, and the errors only its service has.

Wire formats: the documents named by the entries in `tests/checks/provider_contract/providers`."""

from typing import Any

import pytest
from provider_contract.provider import Provider, everyone
from provider_contract.providers import text_duckduckgo as ddg
from provider_contract.providers.text_searxng import found
from provider_contract.server import Answer, Request, Service, serve

from lensgraph.tools import registry
from lensgraph.tools.results import SearchResult
from lensgraph.tools.safety.plain import plain
from lensgraph.tools.text.duckduckgo import DuckDuckGoTextSearch
from lensgraph.tools.text.searxng import SearxngTextSearch

KEY = "a key of some length"
PROVIDERS: dict[str, Provider] = {p.name: p for p in everyone() if p.kind == "text_search"}


def tool(name: str, service: Service, **options: Any) -> Any:
    provider = PROVIDERS[name]
    needs = {"api_key": KEY} if provider.key_variable else {}
    pointed = {**provider.options(service.url), **provider.fast, "timeout": 30, "retries": 0}
    return registry.build("text_search", {"use": name, **pointed, **needs, **options})


async def ask(
    name: str, answer: Answer | None = None, query: str = "q", **options: Any
) -> tuple[SearchResult, Request]:
    provider = PROVIDERS[name]
    with serve(lambda request: answer or provider.works(request)) as service:
        result = await tool(name, service, **options).search(query)
    return result, service.asked[0]


def reason(result: SearchResult) -> str:
    assert result.error is not None
    return result.error.reason


@pytest.mark.parametrize("name", PROVIDERS)
async def test_markup_is_gone_and_results_are_limited(name: str) -> None:
    result, _ = await ask(name, k=1)
    assert len(result.hits) == 1
    assert "<" not in result.hits[0].snippet + result.hits[0].title
    assert "&quot;" not in result.hits[0].snippet
    assert result.hits[0].snippet


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_query_that_is_longer_than_a_service_takes_is_cut(name: str) -> None:
    provider = PROVIDERS[name]
    with serve(lambda request: provider.refuses(request, KEY) or provider.works(request)) as service:
        result = await tool(name, service).search("word " * 190)
    assert result.error is None


async def test_brave_reads_its_own_clock_and_its_own_words_for_a_bad_key() -> None:
    result, request = await ask("brave", country="DE", freshness="pw")
    assert request.query["country"] == "DE"
    assert (request.query["freshness"], request.query["count"], "search_lang" in request.query) == ("pw", "5", False)
    assert result.hits[0].snippet.endswith('"Ee Mungu Nguvu Yetu". It was written in 1963.')
    assert result.price == 0.005
    refused = {"type": "ErrorResponse", "error": {"code": "SUBSCRIPTION_TOKEN_INVALID", "status": 422}}
    listed = {"type": "ErrorResponse", "errors": [{"code": "SUBSCRIPTION_NOT_FOUND", "status": 404}]}
    for body, status in ((refused, 422), (listed, 404)):
        result, _ = await ask("brave", Answer(body, status=status))
        assert reason(result) == "unavailable"
        assert result.error is not None
        assert "check BRAVE_SEARCH_API_KEY" in result.error.message
    result, _ = await ask("brave", Answer({"error": {"code": "QUOTA_LIMITED"}}, status=429))
    assert result.error is not None
    assert "quota is used up" in result.error.message
    result, _ = await ask("brave", Answer({"error": {"code": "VALIDATION"}}, status=422))
    assert reason(result) == "bad_input"


def test_brave_takes_off_as_yaml_reads_it() -> None:
    built: Any = registry.build("text_search", {"use": "brave", "api_key": KEY, "safesearch": False})
    assert built.safesearch == "off"


async def test_serpapi_tells_nothing_found_from_a_failed_search() -> None:
    nothing = {"search_metadata": {"status": "Success"}, "error": "Google hasn't returned any results for this query."}
    failed = {"search_metadata": {"status": "Error"}, "error": "We couldn't get valid results for this search."}
    queued = {"search_metadata": {"status": "Processing"}}
    for body, wanted in ((nothing, "empty"), (failed, "unavailable"), (queued, "unavailable"), ({}, "malformed")):
        result, _ = await ask("serpapi", Answer(body))
        assert reason(result) == wanted


async def test_searxng_tells_no_results_from_no_engines() -> None:
    slow = found(unresponsive=(("google", "timeout"), ("brave", "too many requests")))
    busy = found(unresponsive=(("google", "Suspended: CAPTCHA"), ("brave", "too many requests")))
    for body, wanted in ((found(), "empty"), (slow, "unavailable"), (busy, "rate_limited")):
        result, request = await ask("searxng", Answer(body), engines=["brave", "google"])
        assert reason(result) == wanted
    assert (request.query["format"], request.query["engines"]) == ("json", "brave,google")
    result, _ = await ask("searxng", Answer("<html>Forbidden</html>", status=403))
    assert result.error is not None
    assert "search.formats" in result.error.message


def test_searxng_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(registry.ToolConfigError, match="set base_url or SEARXNG_URL"):
        registry.build("text_search", {"use": "searxng"})
    with pytest.raises(registry.ToolConfigError, match="'searx.example' is no address"):
        registry.build("text_search", {"use": "searxng", "base_url": "searx.example"})
    monkeypatch.setenv("SEARXNG_URL", "http://127.0.0.1:8080/")
    built: Any = registry.build("text_search", {"use": "searxng"})
    assert isinstance(built, SearxngTextSearch)
    assert built.base_url == "http://127.0.0.1:8080"


async def test_wikipedia_keeps_the_rank_and_says_who_it_is() -> None:
    result, request = await ask("wikipedia", contact="me@example.org", k=3)
    assert [hit.title for hit in result.hits] == ["Ee Mungu Nguvu Yetu", "Kenya"]
    assert result.hits[0].url == "https://en.wikipedia.org/wiki/Ee_Mungu_Nguvu_Yetu"
    assert "(me@example.org)" in request.headers["user-agent"]
    assert (request.query["gsrlimit"], request.query["exlimit"]) == ("3", "3")


@pytest.mark.parametrize(
    ("code", "wanted"), [("ratelimited", "rate_limited"), ("readonly", "unavailable"), ("missingparam", "bad_input")]
)
async def test_wikipedia_reports_errors_with_status_200(code: str, wanted: str) -> None:
    result, _ = await ask("wikipedia", Answer({"error": {"code": code, "info": "why"}}))
    assert reason(result) == wanted


def test_wikipedia_in_another_language() -> None:
    built: Any = registry.build("text_search", {"use": "wikipedia", "language": "de"})
    assert built.api_url.replace("{language}", built.language) == "https://de.wikipedia.org/w/api.php"
    with pytest.raises(registry.ToolConfigError, match="language="):
        registry.build("text_search", {"use": "wikipedia", "language": "evil.example/"})


async def test_duckduckgo_reads_the_page_a_person_gets() -> None:
    result, request = await ask("duckduckgo", time_range="m", region="de-de")
    assert [hit.url for hit in result.hits] == ["https://example.org/kenya?a=1&b=2", "https://example.org/anthems"]
    assert result.hits[0].snippet == 'Its national anthem is "Ee".'
    assert (request.form["kl"], request.form["df"]) == ("de-de", "m")
    assert "Mozilla" not in request.headers["user-agent"]
    assert "http" not in request.headers["user-agent"]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Answer(ddg.CHALLENGE, status=202), "rate_limited"),
        (Answer(ddg.CHALLENGE), "rate_limited"),
        (Answer("", status=403), "rate_limited"),
        (Answer(ddg.page('<div class="no-results">No results found for <b>x</b></div>'), status=202), "empty"),
        (Answer("<html>new layout</html>"), "malformed"),
        (Answer(ddg.page(ddg.result("Ad", "https://duckduckgo.com/y.js?ad=1", "s"))), "malformed"),
        (Answer(ddg.page(ddg.result("J", "javascript:alert(1)", "s"))), "malformed"),
    ],
)
async def test_duckduckgo_tells_a_challenge_from_nothing_found(answer: Answer, wanted: str) -> None:
    result, _ = await ask("duckduckgo", answer)
    assert reason(result) == wanted


async def test_a_page_that_talks_about_challenges_is_a_result() -> None:
    body = ddg.page(ddg.result("About anomaly-modal", "https://e.org/", "challenge-form explained"))
    result, _ = await ask("duckduckgo", Answer(body))
    assert [hit.title for hit in result.hits] == ["About anomaly-modal"]


def test_duckduckgo_is_slow_by_itself() -> None:
    assert DuckDuckGoTextSearch().requests_per_second == 0.5


def test_plain_text() -> None:
    assert plain("a <b>bold</b>&nbsp;&amp; <em>x</em>\n y") == "a bold & x y"
    assert plain("1 < 2 and 3 > 2") == "1 < 2 and 3 > 2"
    assert plain(None) == plain({"a": 1}) == ""
    assert plain("abc", 2) == "ab"
