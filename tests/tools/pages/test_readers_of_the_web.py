"""Reading pages: our own fetcher with robots rules (RFC 9309), and the services that read on their side."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from provider_contract.providers import page_jina
from provider_contract.providers.page_fetch import ARTICLE
from provider_contract.server import Answer, Request, Service, serve

from lensgraph.tools import registry
from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.pages import fetch, robots
from lensgraph.tools.pages.base import for_others
from lensgraph.tools.pages.fetch import FetchPageReader
from lensgraph.tools.pages.jina import JinaPageReader
from lensgraph.tools.pages.tavily_extract import TavilyPageReader, heading
from lensgraph.tools.results import Page, ToolFailure


@pytest.fixture(autouse=True)
def _no_rules_from_before() -> Iterator[None]:
    robots.forget()
    yield
    robots.forget()


def reader(service: Service, **options: Any) -> FetchPageReader:
    port = int(service.url.rpartition(":")[2])
    here = {"allow_networks": ["127.0.0.0/8"], "allow_ports": [port], "requests_per_second": 1000, "timeout": 20}
    return FetchPageReader(**{**here, **options})


def site(pages: dict[str, Answer], rules: Answer | None = None) -> Any:
    def respond(request: Request) -> Answer:
        if request.path == "/robots.txt":
            return rules or Answer("no rules", status=404)
        return pages.get(request.path, Answer("", status=404))

    return serve(respond)


def reason(page: Page) -> str:
    assert page.error is not None, page
    return page.error.reason


# --- what is read


async def test_the_article_is_read_and_the_rest_of_the_page_left_out() -> None:
    with site({"/a": Answer(ARTICLE)}) as service:
        page = await reader(service).read(f"{service.url}/a#part")
        assert service.asked[-1].headers["user-agent"] == "lensgraph"
    assert page.title == "Kenya"
    assert "written by a commission" in page.text
    assert "All rights reserved" not in page.text
    assert "<" not in page.text


async def test_a_page_without_an_article_gives_all_its_words() -> None:
    links = "<html><head><title>List</title></head><body><ul><li><a href='/1'>First of two</a></li></ul></body></html>"
    with site({"/l": Answer(links)}) as service:
        page = await reader(service).read(f"{service.url}/l")
    assert "First of two" in page.text


async def test_the_encoding_that_the_server_names_goes_before_guesses() -> None:
    body = ARTICLE.replace("Ee Mungu", "Äë Müngü").encode("iso-8859-1")
    with site({"/a": Answer(body, content_type="text/html; charset=iso-8859-1")}) as service:
        page = await reader(service).read(f"{service.url}/a")
    assert "Äë Müngü" in page.text


async def test_plain_text_and_pdf_are_pages_too() -> None:
    from pypdf import PdfWriter

    buffer = io.BytesIO()
    writer = PdfWriter()
    writer.add_blank_page(72, 72)
    writer.write(buffer)
    with site({"/t": Answer("Just words."), "/p": Answer(buffer.getvalue())}) as service:
        assert (await reader(service).read(f"{service.url}/t")).text == "Just words."
        assert reason(await reader(service).read(f"{service.url}/p")) == "empty"  # a PDF without words


async def test_a_page_is_cut() -> None:
    with site({"/t": Answer("word " * 1000)}) as service:
        page = await reader(service, max_chars=500).read(f"{service.url}/t")
    assert len(page.text) <= 500


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("", "bad_input"), ("kenya", "bad_input"), ("file:///notes.txt", "bad_input"), ("http://127.0.0.1/", "refused"),
        ("http://169.254.169.254/latest/meta-data/", "refused"), ("http://[::1]/", "refused"),
        ("https://" + "a" * 3000, "bad_input"),
    ],
)  # fmt: skip
async def test_what_is_no_page_of_the_web_is_not_asked_for(url: str, wanted: str) -> None:
    assert reason(await FetchPageReader(retries=0).read(url)) == wanted


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(registry.ToolConfigError, match="allow_networks=.*10.0.0.0/99"):
        registry.build("read_page", {"allow_networks": ["10.0.0.0/99"]})


async def test_a_page_is_kept_in_the_cache_by_its_exact_address(tmp_path: Any) -> None:
    with site({"/A": Answer("upper"), "/a": Answer("lower")}) as service:
        tool = reader(service).use_cache(Cache(CacheSettings(folder=str(tmp_path))))
        texts = [(await tool.read(f"{service.url}/{name}")).text for name in ("A", "a", "A")]
        assert [request.path for request in service.asked if request.path != "/robots.txt"] == ["/A", "/a"]
    assert texts == ["upper", "lower", "upper"]


async def test_the_first_extractions_load_the_tables_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def extraction(text: str, **_: Any) -> None:
        loads.append(text)
        time.sleep(0.05)

    monkeypatch.setattr(fetch, "_warm", threading.Event())
    monkeypatch.setattr("trafilatura.bare_extraction", extraction)
    await asyncio.gather(*(asyncio.to_thread(FetchPageReader().prepare) for _ in range(5)))
    assert len(loads) == 1


# --- robots.txt


async def test_a_disallowed_page_is_not_asked_for() -> None:
    rules = Answer("User-agent: *\nDisallow: /private/\nAllow: /private/open\n")
    with site({"/private/x": Answer(ARTICLE), "/private/open": Answer(ARTICLE)}, rules) as service:
        page = await reader(service).read(f"{service.url}/private/x")
        assert (await reader(service).read(f"{service.url}/private/open")).error is None
        assert [request.path for request in service.asked] == [
            "/robots.txt",
            "/private/open",
        ]  # and the rules once only
    assert reason(page) == "refused"
    assert page.error is not None
    assert "robots.txt does not allow it" in page.error.message


async def test_rules_for_this_program_go_before_rules_for_all() -> None:
    rules = Answer("User-agent: *\nDisallow: /\n\nUser-agent: LensGraph\nDisallow: /no\n")
    with site({"/yes": Answer(ARTICLE), "/no": Answer(ARTICLE)}, rules) as service:
        assert (await reader(service).read(f"{service.url}/yes")).error is None
        assert reason(await reader(service).read(f"{service.url}/no")) == "refused"


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(404, ""), (403, ""), (410, ""), (429, "rate_limited"), (500, "unavailable"), (503, "unavailable")],
)
async def test_no_rules_allow_and_unreachable_rules_do_not(status: int, wanted: str) -> None:
    with site({"/a": Answer(ARTICLE)}, Answer("", status=status)) as service:
        page = await reader(service, retries=0).read(f"{service.url}/a")
        asked = [request.path for request in service.asked]
    assert (page.error.reason if page.error else "") == wanted
    assert ("/a" in asked) is (not wanted)
    if page.error is not None:
        assert f"robots.txt cannot be read ({status})" in page.error.message


async def test_rules_that_came_too_late_are_asked_for_again() -> None:
    rules = [Answer("", delay=20), Answer("User-agent: *\nDisallow: /x\n")]
    with serve(lambda request: rules.pop(0) if request.path == "/robots.txt" else Answer(ARTICLE)) as service:
        assert reason(await reader(service, timeout=0.6, retries=0).read(f"{service.url}/a")) == "timeout"
        assert (await reader(service).read(f"{service.url}/a")).error is None


async def test_a_redirect_is_followed_only_where_the_rules_of_its_target_allow() -> None:
    rules = Answer("User-agent: *\nDisallow: /private\n")
    moved = {
        "/in": Answer("", status=302, headers={"Location": "/private"}),
        "/ok": Answer("", status=302, headers={"Location": "/a"}),
    }
    with site({**moved, "/a": Answer(ARTICLE), "/private": Answer(ARTICLE)}, rules) as service:
        assert (await reader(service).read(f"{service.url}/ok")).error is None
        assert reason(await reader(service).read(f"{service.url}/in")) == "refused"
        assert "/private" not in [request.path for request in service.asked]


async def test_the_rules_can_be_left_aside_for_pages_of_ones_own() -> None:
    with site({"/a": Answer(ARTICLE)}, Answer("User-agent: *\nDisallow: /\n")) as service:
        assert (await reader(service, respect_robots=False).read(f"{service.url}/a")).error is None
        assert [request.path for request in service.asked] == ["/a"]


async def test_a_crawl_delay_is_kept_and_one_that_cannot_be_waited_for_is_a_reason() -> None:
    with site({"/a": Answer("one"), "/b": Answer("two")}, Answer("User-agent: *\nCrawl-delay: 1\n")) as service:
        started = time.monotonic()
        for name in ("a", "b"):
            assert (await reader(service).read(f"{service.url}/{name}")).error is None
        assert time.monotonic() - started >= 1
    with site({"/a": Answer("one")}, Answer("User-agent: *\nCrawl-delay: 600\n")) as service:
        assert (await reader(service).read(f"{service.url}/a")).error is None
        assert reason(await reader(service).read(f"{service.url}/a")) == "rate_limited"


async def test_rules_are_read_again_after_an_hour_and_after_a_minute_if_they_could_not_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    now = 1000.0
    monkeypatch.setattr(robots, "time", SimpleNamespace(monotonic=lambda: now))

    async def get(url: str) -> bytes:
        asked.append(url)
        if url.startswith("http://down"):
            raise ToolFailure("unavailable", "no answer")
        return b"User-agent: *\nDisallow: /x"

    for now in (1000.0, 1050.0, 1061.0, 4599.0, 4601.0):
        await robots.ask("http://up/a", get)
        await robots.ask("http://down/a", get)
    assert asked.count("http://up/robots.txt") == 2
    assert asked.count("http://down/robots.txt") == 3


async def test_many_who_ask_at_once_share_one_reading_of_the_rules_which_takes_a_turn() -> None:
    names = [f"/{number}" for number in range(4)]
    with site({name: Answer("words") for name in names}, Answer("", delay=0.2)) as service:
        slow = reader(service, requests_per_second=10)
        pages = await asyncio.gather(*(slow.read(service.url + name) for name in names))
        assert [page.error for page in pages] == [None] * 4
        assert [request.path for request in service.asked].count("/robots.txt") == 1
        times = [request.at for request in service.asked]
    assert len(times) == 5
    assert times[-1] - times[0] >= 0.38  # four gaps


async def test_what_the_guard_of_one_reader_refuses_is_not_held_against_another() -> None:
    with site({"/a": Answer(ARTICLE)}) as service:
        mine = reader(service)
        public = reader(service, allow_networks=[])
        refused = await public.read(f"{service.url}/a")
        assert reason(refused) == "refused"
        assert refused.error is not None
        assert "not a public address" in refused.error.message
        assert (await mine.read(f"{service.url}/a")).error is None


async def test_a_broken_connection_is_tried_again() -> None:
    tries: list[str] = []

    def respond(request: Request) -> Answer:
        if request.path == "/a":
            tries.append(request.path)
            if len(tries) == 1:
                raise OSError("the line is cut")
        return Answer(ARTICLE) if request.path == "/a" else Answer("", status=404)

    with serve(respond) as service:
        page = await reader(service, backoff=0.01).read(f"{service.url}/a")
    assert page.error is None, page.error
    assert len(tries) == 2


async def test_a_host_that_asks_to_wait_is_left_alone_by_all() -> None:
    busy = Answer("", status=429, headers={"Retry-After": "1"})
    asked: list[float] = []
    refused = threading.Event()

    def respond(request: Request) -> Answer:
        if request.path == "/robots.txt":
            return Answer("", status=404)
        asked.append(request.at)
        refused.set()
        return busy if len(asked) == 1 else Answer(ARTICLE)

    with serve(respond) as service:
        first = asyncio.create_task(reader(service).read(f"{service.url}/a"))
        await asyncio.to_thread(refused.wait, 20)
        await asyncio.sleep(0.5)  # the refusal is on its way; a busy machine takes its time
        pages = await asyncio.gather(first, *(reader(service).read(f"{service.url}/{n}") for n in range(3)))
    assert all(page.error is None for page in pages)
    assert min(asked[1:]) - asked[0] >= 1


async def test_who_stops_waiting_for_the_rules_leaves_them_to_the_others() -> None:
    asked: list[str] = []

    async def get(url: str) -> bytes:
        asked.append(url)
        await asyncio.sleep(0.1)
        return b""

    first, second, third = (asyncio.create_task(robots.ask("http://one/a", get)) for _ in range(3))
    await asyncio.sleep(0.02)
    second.cancel()
    first.cancel()
    assert (await third).allowed
    assert len(asked) == 2  # the reading of the one who left, and that of the one who stayed


# --- services that read on their side


@pytest.mark.parametrize(
    "url",
    ["http://localhost/a", "http://intranet/a", "http://printer.local/", "http://10.0.0.7/", "http://127.1/", "http://0x7f.1/",
     "http://2130706433/", "http://[::ffff:10.0.0.1]/", "http://user:word@example.org/", "http://a.internal./", "http://[oops/"],
)  # fmt: skip
async def test_an_inner_address_is_not_told_to_others(url: str) -> None:
    with pytest.raises(ToolFailure) as caught:
        for_others(url)
    assert caught.value.reason == "refused"
    with serve(lambda _: Answer({})) as service:
        for tool in (
            JinaPageReader(base_url=service.url),
            TavilyPageReader(api_key="some long key", api_base_url=service.url),
        ):
            assert reason(await tool.read(url)) == "refused"
        assert service.asked == []


@pytest.mark.parametrize(
    "url", ["https://example.org/a?b=1#c", "http://8.8.8.8/", "http://[2606:4700::1111]/", "https://bücher.example/"]
)
def test_a_public_address_is(url: str) -> None:
    assert for_others(url) == url


async def jina(answer: Answer) -> Page:
    with serve(lambda _: answer) as service:
        page = await JinaPageReader(base_url=service.url, retries=0, timeout=20).read("https://example.org/kenya")
        assert "authorization" not in service.asked[0].headers
        assert service.asked[0].headers["x-robots-txt"] == "lensgraph"
    return page


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (page_jina.page(content="Not found", warning="Target URL returned error 404: Not Found"), "unavailable"),
        (page_jina.error(422, 42206, "AssertionFailureError", "Failed to goto"), "unavailable"),
        (page_jina.error(422, 42206, "ParamValidationError", "Invalid URL"), "bad_input"),
        (page_jina.error(451, 45102, "SecurityCompromiseError", "blocked"), "refused"),
        (page_jina.error(402, 40203, "InsufficientBalanceError", "top up"), "unavailable"),
    ],
)
async def test_jina_speaks_of_the_page_in_its_errors(answer: Answer, wanted: str) -> None:
    assert reason(await jina(answer)) == wanted


async def test_tavily_lists_pages_that_failed() -> None:
    failed = {"results": [], "failed_results": [{"url": "https://e.org", "error": "Failed to fetch url"}]}
    with serve(lambda _: Answer(failed)) as service:
        page = await TavilyPageReader(api_key="some long key", api_base_url=service.url, timeout=0.9).read(
            "https://e.org"
        )
        assert service.asked[0].json["timeout"] >= 1  # the service takes 1 to 60
    assert page.error is not None
    assert page.error.message == "Tavily could not read https://e.org: Failed to fetch url"
    assert page.price == 0


def test_the_heading_of_markdown() -> None:
    assert heading("\n# Kenya\ntext") == "Kenya"
    assert heading("text") == ""
