"""Rules that every provider on the network shares: the key stays secret, the pace is kept, further tries end in time."""

import asyncio
import gzip
import logging
import threading
import time
import traceback
from typing import Any, ClassVar

import httpx
import pytest
from provider_contract.server import Answer, Request, Service, serve

from lensgraph.tools.base import TextSearch
from lensgraph.tools.pace import LONGEST_HOLD, Pace
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.retry import retry_after

KEY = "sk/very+secret"


class Search(TextSearch, Remote):
    """A provider as small as one can be."""

    service: ClassVar[str] = "Example"
    key_variable: ClassVar[str] = "EXAMPLE_API_KEY"
    key_parameter: ClassVar[str] = "api_key"

    url: str
    also: dict[str, str] = {}

    async def asearch(self, query: str) -> SearchResult:
        answer = await self.request("GET", self.url, params={"q": query, **self.also})
        return SearchResult(kind="text", query=query, hits=[Hit(title=str(answer), url="https://e")])


def search(service: Service, **options: Any) -> Search:
    return Search(url=f"{service.url}/s", **{"api_key": KEY, "backoff": 0.01, "timeout": 20, **options})


async def failure(service: Service, **options: Any) -> ToolFailure:
    with pytest.raises(ToolFailure) as caught:
        await search(service, **options).asearch("q")
    return caught.value


async def test_a_key_in_the_query_reaches_the_service_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name or None)
    with serve(lambda _: Answer({"ok": 1})) as service:
        tool = search(service)
        result = await tool.search("q")
    assert service.asked[0].query == {"q": "q", "api_key": KEY}
    assert "HTTP Request: GET" in caplog.text  # the line that would show it
    assert "api_key=%2A%2A%2A" in caplog.text or "api_key=***" in caplog.text
    for text in (caplog.text, repr(result), repr(tool), str(tool), str(tool.model_dump())):
        assert "very" not in text


async def test_a_key_that_a_provider_puts_into_a_parameter_itself_is_hidden_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")
    with serve(lambda _: Answer({})) as service:
        await search(service, also={"token": KEY}).search("q")
    assert service.asked[0].query["token"] == KEY
    assert "very" not in caplog.text


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500])
async def test_no_failure_shows_the_key_even_if_the_service_repeats_it(status: int) -> None:
    def repeat(request: Request) -> Answer:
        body = f"key {request.query['api_key']} and sk%2Fvery%2Bsecret"
        return Answer(body, status=status, headers={"Location": f"https://e/?k={KEY}"})

    with serve(repeat) as service:
        error = await failure(service, retries=0)
    assert "very" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "written", [r"sk\/very+secret", r"sk\u002Fvery\u002bsecret", r"\u0073k\\\/very+secret", "sk%2fvery%2bsecret"]
)
async def test_a_key_that_comes_back_escaped_is_hidden_all_the_same(written: str, status: int) -> None:
    body = f'{{"error": "no access with {written}", "{written}": ["{written}"]}}'
    with serve(lambda _: Answer(body, status=status, content_type="application/json")) as service:
        result = await search(service, retries=0).search("q")
    assert "very" not in repr(result)
    assert "***" in repr(result)


async def test_a_failure_that_a_provider_puts_together_does_not_show_the_key() -> None:
    class InPieces(Search):
        async def asearch(self, query: str) -> SearchResult:
            first, second = await self.request("GET", self.url)
            raise ToolFailure("unavailable", f"{self.service}: {first}{second}")

    with serve(lambda _: Answer(["sk/very", "+secret"])) as service:
        result = await InPieces(url=f"{service.url}/s", api_key=KEY).search("q")
    assert result.error is not None
    assert result.error.message == "Example: ***"


async def test_no_failure_of_the_connection_shows_the_key() -> None:
    tool = Search(url="http://127.0.0.1:9/s", api_key=KEY, retries=0)
    with pytest.raises(ToolFailure) as caught:
        await tool.asearch("q")
    assert caught.value.reason == "unavailable"
    assert "very" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "reason"),
    [(302, "unavailable"), (400, "bad_input"), (401, "unavailable"), (402, "unavailable"), (404, "bad_input"),
     (429, "rate_limited"), (500, "unavailable"), (503, "unavailable")],
)  # fmt: skip
async def test_a_status_has_its_reason_and_is_told(status: int, reason: str) -> None:
    with serve(lambda _: Answer("said so", status=status)) as service:
        error = await failure(service, retries=0)
    assert (error.reason, error.status) == (reason, status)


async def test_a_redirect_is_not_followed() -> None:
    with serve(lambda _: Answer("", status=302, headers={"Location": "/elsewhere"})) as service:
        await failure(service)
    assert [request.path for request in service.asked] == ["/s"]


async def test_a_wait_that_would_end_too_late_ends_the_call_at_once_and_says_how_long() -> None:
    with serve(lambda _: Answer("", status=429, headers={"Retry-After": "90"})) as service:
        started = time.monotonic()
        error = await failure(service, timeout=60)
    assert time.monotonic() - started < 30
    assert (error.reason, error.wait, len(service.asked)) == ("rate_limited", 90, 1)
    assert "90 s" in str(error)


async def test_what_cannot_help_is_not_tried_again() -> None:
    with serve(lambda _: Answer("", status=400)) as service:
        await failure(service, retries=5)
    assert len(service.asked) == 1


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_cap_is_dropped(declared: bool) -> None:
    body = Answer(b"1" * 3000) if declared else Answer(b"1" * 3000, repeat=2)
    with serve(lambda _: body) as service:
        error = await failure(service, max_body_bytes=2000)
    assert error.reason == "malformed"
    assert "2,000 bytes" in str(error)


async def test_a_body_that_grows_when_it_is_unpacked_is_dropped() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    with serve(lambda _: Answer(bomb, headers={"Content-Encoding": "gzip"})) as service:
        error = await failure(service)
        assert service.asked[0].headers["accept-encoding"] == "identity"
    assert error.reason == "malformed"
    with serve(lambda _: Answer(gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})) as service:
        result = await search(service).search("q")
    assert result.hits[0].title == "{'a': 1}"


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_encoding_that_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    with serve(lambda _: Answer(b"\x28\xb5", headers={"Content-Encoding": encoding})) as service:
        assert (await failure(service)).reason == "malformed"


async def test_json_too_deep_to_parse_is_malformed() -> None:
    with serve(lambda _: Answer("[" * 200_000)) as service:
        assert (await failure(service)).reason == "malformed"


def test_retry_after_is_seconds_or_a_date() -> None:
    def told(value: str, **more: str) -> float | None:
        return retry_after({"retry-after": value, **more})

    assert told("7") == 7
    assert told("-3") == told("nan") == 0
    assert told("Wed, 21 Oct 2015 07:28:10 GMT") == 0
    assert told("soon") is told("Wed, 21 Oct 99999999999999 07:28:10 GMT") is retry_after({}) is None


@pytest.mark.parametrize("year", [1970, 2015, 2099])
def test_a_date_counts_from_the_servers_clock(year: int) -> None:
    """The clock of this machine may have been set back."""
    asked = {"retry-after": f"Wed, 21 Oct {year} 07:28:10 GMT", "date": f"Wed, 21 Oct {year} 07:28:00 GMT"}
    assert retry_after(asked) == 10


async def test_a_pace_is_one_for_all_event_loops_and_tools() -> None:
    pace = Pace.of("a service of this test")
    assert Pace.of("a service of this test") is pace
    started = time.monotonic()
    await asyncio.gather(
        *(pace.turn(20) for _ in range(4)), *(asyncio.to_thread(asyncio.run, pace.turn(20)) for _ in range(2))
    )
    assert time.monotonic() - started >= 5 / 20


async def test_who_would_wait_too_long_for_a_turn_is_told_at_once_and_takes_none() -> None:
    pace = Pace.of("a slow service of this test")
    await pace.turn(0.01)
    with pytest.raises(ToolFailure) as caught:
        await pace.turn(0.01, patience=5)
    assert caught.value.reason == "rate_limited"
    assert pace._free_at - time.monotonic() < 101  # one slot was taken, not two


async def test_the_paces_of_many_hosts_are_forgotten_but_not_one_that_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensgraph.tools.pace.KEPT_PACES", 20)
    monkeypatch.setattr(Pace, "_all", type(Pace._all)())  # those of other tests are not counted
    busy = Pace.of("a busy host of this test")
    await busy.turn(0.01)  # its next slot is in 100 seconds
    for n in range(500):
        assert len(Pace._all) <= 20 + sum(pace._free_at > time.monotonic() for pace in Pace._all.values())
        await Pace.of(f"host {n} of this test").turn(1e6)
    recent = Pace.of("host 499 of this test")
    assert Pace.of("a busy host of this test") is busy
    assert Pace.of("host 499 of this test") is recent


async def test_a_tool_keeps_to_its_own_rate() -> None:
    with serve(lambda _: Answer({})) as service:
        tools = [search(service, requests_per_second=5.0) for _ in range(3)]
        await asyncio.gather(*(tool.search(f"q{n}") for n, tool in enumerate(tools)))
    times = sorted(request.at for request in service.asked)
    assert times[-1] - times[0] >= 0.3


async def test_an_address_that_is_none_is_a_failure_with_a_reason() -> None:
    for url in ("nowhere", "ftp://example.org/", "http://[::1"):
        result = await Search(url=url, api_key=KEY, retries=1, backoff=0.01).search("q")
        assert result.error is not None
        assert result.error.reason in ("unavailable", "bad_input")
        assert "very" not in result.error.message


def test_a_sealed_address_behaves_like_the_address() -> None:
    from lensgraph.tools.remote import _SealedURL

    plain = httpx.URL("https://e.org/p?q=1&api_key=sk%2Fvery%2Bsecret")
    sealed = _SealedURL(plain, KEY)
    assert (sealed.raw_path, sealed.host, sealed.params["api_key"]) == (plain.raw_path, "e.org", KEY)
    assert "very" not in f"{sealed} {sealed!r}" + str([sealed])


async def test_a_service_that_asks_to_wait_is_left_alone_by_all_who_have_the_key() -> None:
    asked: list[float] = []
    refused = threading.Event()

    def respond(request: Request) -> Answer:
        asked.append(request.at)
        refused.set()
        return Answer({}, status=429, headers={"Retry-After": "1"}) if len(asked) == 1 else Answer({"ok": 1})

    with serve(respond) as service:
        first = asyncio.create_task(search(service, retries=1).search("q"))
        await asyncio.to_thread(refused.wait, 20)
        await asyncio.sleep(0.5)  # the refusal is on its way; a busy machine takes its time
        results = await asyncio.gather(first, *(search(service, retries=0).search(f"q {n}") for n in range(3)))
    assert all(result.error is None for result in results)
    assert len(asked) == 5
    assert min(asked[1:]) - asked[0] >= 1


async def test_who_cannot_wait_that_long_is_told_at_once_and_other_keys_are_not_held() -> None:
    busy = Answer({}, status=429, headers={"Retry-After": "3600"})
    with serve(lambda _: busy if len(service.asked) == 1 else Answer({"ok": 1})) as service:
        assert (await failure(service)).reason == "rate_limited"
        began = time.monotonic()
        told = await failure(service)
        assert (told.reason, len(service.asked)) == ("rate_limited", 1)
        assert "asked another caller to wait, " in str(told)
        assert time.monotonic() - began < 5
        assert (await search(service, api_key="another key").search("q")).error is None
    pace = Pace()
    pace.hold(3600)
    assert pace.held() <= LONGEST_HOLD
