"""Google Lens through SerpApi and SearchApi, against a server on this machine.

Checked against: serpapi.com/google-lens-api, /image-api and /api-status-and-error-codes (and /search-errors for errors in an
answer of status 200); searchapi.io/docs/google-lens. The words of an empty result are those that both services send.
"""

import io
import logging
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import ValidationError

from lensgraph.tools.image.lens import LensImageSearch
from lensgraph.tools.image.searchapi_lens import SearchApiLensImageSearch
from lensgraph.tools.image.serpapi_lens import MAX_UPLOAD_BYTES, SerpApiLensImageSearch
from lensgraph.tools.registry import ToolConfigError, build

from .conftest import Answer, Asked, Service
from .storage import KEY_ID, SECRET, Storage

KEY = "very-secret-lens-key"
PICTURE = Image.new("RGB", (320, 200), "red")
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
MATCH = {
    "position": 1, "title": "Kinderdijk  windmills", "link": "https://example.org/mill", "source": "Example",
    "source_icon": "https://example.org/icon.png", "thumbnail": PNG,
}  # fmt: skip
FOUND = {
    "search_metadata": {"status": "Success"},
    "visual_matches": [MATCH, {**MATCH, "title": "Second"}, {}, "odd"] * 3,
}
CLASSES: list[type[LensImageSearch]] = [SerpApiLensImageSearch, SearchApiLensImageSearch]


@pytest.fixture
def storage(service: Service) -> Storage:
    """The service's answer becomes: storage for signed addresses, `FOUND` for searches."""
    state = Storage()
    service.answer = lambda asked: (
        state(asked) if "X-Amz-" in asked.path and "/search" not in asked.path else Answer(FOUND)
    )
    return state


def lens(cls: type[LensImageSearch], service: Service, **options: Any) -> LensImageSearch:
    keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
    publisher = {"use": "s3", "bucket": "pictures", "endpoint": service.url, **keys}
    return cls(**{"base_url": service.url, "api_key": KEY, "backoff": 0.01, "publisher": publisher, **options})


def searched(service: Service) -> list[Asked]:
    return [asked for asked in service.asked if "/search" in asked.path]


@pytest.mark.parametrize("cls", CLASSES)
async def test_the_picture_is_published_and_matches_come_back(
    cls: type[LensImageSearch], service: Service, storage: Storage, web: httpx.AsyncClient
) -> None:
    result = await lens(cls, service, k=3).search(PICTURE)
    assert result.error is None
    assert [(hit.title, hit.url) for hit in result.hits] == [
        ("Kinderdijk windmills", "https://example.org/mill"),
        ("Second", "https://example.org/mill"),
        ("untitled", ""),
    ]
    assert result.hits[0].thumbnail is not None
    assert result.hits[2].thumbnail is None
    assert result.price == {SerpApiLensImageSearch: 0.025, SearchApiLensImageSearch: 0.004}[cls]
    (asked,) = searched(service)
    published = asked.query["url"]
    assert published.startswith(f"{service.url}/pictures/lensgraph/")
    assert Image.open(io.BytesIO((await web.get(published)).content)).size == (320, 200)


async def test_serpapi_is_asked_in_its_words(service: Service, storage: Storage) -> None:
    await lens(SerpApiLensImageSearch, service, language="de", country="at").search(PICTURE)
    (asked,) = searched(service)
    assert asked.method == "GET"
    assert asked.path.startswith("/search.json")
    assert {name: value for name, value in asked.query.items() if name != "url"} == {
        "engine": "google_lens", "type": "visual_matches", "hl": "de", "country": "at", "api_key": KEY,
    }  # fmt: skip


async def test_searchapi_is_asked_in_its_words(service: Service, storage: Storage) -> None:
    await lens(SearchApiLensImageSearch, service).search(PICTURE)
    (asked,) = searched(service)
    assert asked.method == "GET"
    assert asked.path.startswith("/api/v1/search")
    assert {name: value for name, value in asked.query.items() if name != "url"} == {
        "engine": "google_lens", "search_type": "visual_matches", "hl": "en", "country": "us",
    }  # fmt: skip
    assert asked.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("cls", CLASSES)
async def test_exact_matches_are_read_where_they_are_asked_for(
    cls: type[LensImageSearch], service: Service, storage: Storage
) -> None:
    both = {**FOUND, "exact_matches": [{**MATCH, "title": "The very picture"}]}
    service.answer = lambda asked: Answer(both) if "/search" in asked.path else storage(asked)
    result = await lens(cls, service, matches="exact_matches").search(PICTURE)
    assert [hit.title for hit in result.hits] == ["The very picture"]


@pytest.mark.parametrize("cls", CLASSES)
async def test_nothing_is_published_unless_it_is_configured(cls: type[LensImageSearch], service: Service) -> None:
    result = await lens(cls, service, publisher=None).search(PICTURE)
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert "publisher {use: s3, bucket: ...}" in result.error.message
    assert service.asked == []


@pytest.mark.parametrize("cls", CLASSES)
async def test_storage_that_fails_is_the_searchs_reason(
    cls: type[LensImageSearch], service: Service, storage: Storage
) -> None:
    storage.bucket = "another"
    result = await lens(cls, service).search(PICTURE)
    assert result.error is not None
    assert "no bucket 'pictures'" in result.error.message
    assert searched(service) == []


async def test_serpapi_takes_the_picture_itself_when_that_is_wanted(service: Service) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer({"message": "ok", "image_id": "xokJ"}) if asked.path == "/image" else Answer(FOUND)

    service.answer = answer
    noise = Image.effect_noise((1500, 1100), 120).convert("RGB")
    result = await lens(SerpApiLensImageSearch, service, publisher=None, upload=True).search(noise)
    assert result.error is None
    upload, search = service.asked
    assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
    head, _, rest = upload.body.partition(b"\xff\xd8")  # where a JPEG begins
    assert b'name="api_key"\r\n\r\n' + KEY.encode() in head + rest
    assert b'name="image"; filename="picture.jpg"\r\nContent-Type: image/jpeg' in head
    assert len(rest) < MAX_UPLOAD_BYTES + 1000
    assert Image.open(io.BytesIO(b"\xff\xd8" + rest)).size[0] <= 1200
    assert search.query["image_id"] == "xokJ"
    assert "url" not in search.query


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer({"error": "Invalid image format. Supported format: jpg, jpeg, png, webp"}), "bad_input"),
        (Answer({"message": "odd"}), "malformed"),
        (Answer([]), "malformed"),
        (Answer({"error": "Invalid API key."}, 401), "unavailable"),
    ],
)
async def test_an_upload_that_fails_has_its_reason(service: Service, answer: Answer, reason: str) -> None:
    service.answer = answer
    result = await lens(SerpApiLensImageSearch, service, upload=True).search(PICTURE)
    assert result.error is not None
    assert result.error.reason == reason


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (400, {"error": "Missing `url` parameter."}, "bad_input"),
        (401, {"error": "Invalid API key. Your API key should be here: https://serpapi.com/manage-api-key"}, "unavailable"),
        (403, {"error": "Forbidden"}, "unavailable"),
        (429, {"error": "Your account has run out of searches."}, "rate_limited"),
        (503, {"search_metadata": {"status": "Error"}, "error": "We couldn't get valid results."}, "unavailable"),
        (200, {"search_metadata": {"status": "Error"}, "error": "Proxy timeout"}, "unavailable"),
        (200, {"search_metadata": {"status": "Processing"}}, "unavailable"),
        (200, {"search_metadata": {"status": "Success"},
               "error": "Google Lens hasn't returned any results for this query."}, "empty"),
        (200, {"search_metadata": {"status": "Success"}, "error": "Google Lens didn't return any results."}, "empty"),
        (200, {"search_metadata": {"status": "Success"}}, "empty"),
        (200, {"search_metadata": {"status": "Success"}, "visual_matches": []}, "empty"),
        (200, {"visual_matches": "odd"}, "malformed"),
        (200, {}, "malformed"),
        (200, [], "malformed"),
        (200, b"<html>", "malformed"),
        (200, b"x" * 5_000_000, "malformed"),
    ],
)  # fmt: skip
async def test_every_failure_has_its_reason_and_costs_nothing(
    cls: type[LensImageSearch], service: Service, storage: Storage, status: int, answer: Any, reason: str
) -> None:
    service.answer = lambda asked: Answer(answer, status) if "/search" in asked.path else storage(asked)
    result = await lens(cls, service).search(PICTURE)
    assert result.error is not None
    assert (result.error.reason, result.price) == (reason, 0)
    assert KEY not in result.error.message


@pytest.mark.parametrize("cls", CLASSES)
async def test_a_picture_is_taken_back_also_when_the_search_fails(
    cls: type[LensImageSearch], service: Service, storage: Storage
) -> None:
    service.answer = lambda asked: Answer(b"<html>") if "/search" in asked.path else storage(asked)
    tool = lens(cls, service)
    assert tool.publisher is not None
    tool.publisher.delete_after = True  # type: ignore[attr-defined]
    assert (await tool.search(PICTURE)).error is not None
    assert storage.objects == {}
    assert [asked.method for asked in service.asked] == ["PUT", "GET", "DELETE"]


@pytest.mark.parametrize("cls", CLASSES)
async def test_a_slow_service_is_a_timeout(cls: type[LensImageSearch], service: Service, storage: Storage) -> None:
    service.answer = lambda asked: Answer(FOUND, delay=1.5) if "/search" in asked.path else storage(asked)
    result = await lens(cls, service, timeout=0.7).search(PICTURE)
    assert result.error is not None
    assert result.error.reason == "timeout"


@pytest.mark.parametrize("cls", CLASSES)
async def test_keys_are_shown_nowhere(
    cls: type[LensImageSearch], service: Service, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tool = lens(cls, service)
    result = await tool.search(PICTURE)
    shown = f"{result!r}{tool!r}{tool.model_dump()}{caplog.text}"
    assert KEY not in shown
    assert SECRET not in shown


def test_the_tools_work_without_an_event_loop_too(service: Service, storage: Storage) -> None:
    for cls in CLASSES:
        assert lens(cls, service).invoke({"image": PICTURE}).startswith("1. Kinderdijk windmills")


def test_lines_of_configuration_are_enough(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("SERPAPI_API_KEY", KEY)
    tool = build("image_search", {"use": "serpapi_lens", "publisher": {"use": "s3", "bucket": "b"}})
    assert isinstance(tool, SerpApiLensImageSearch)
    with pytest.raises(ToolConfigError, match="unknown publisher 'imgur'"):
        build("image_search", {"use": "serpapi_lens", "publisher": {"use": "imgur"}})
    with pytest.raises(ToolConfigError, match="bucket"):
        build("image_search", {"use": "serpapi_lens", "publisher": {"use": "s3"}})


@pytest.mark.parametrize("cls", CLASSES)
def test_without_a_key_the_tool_is_not_built(cls: type[LensImageSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cls.key_variable, raising=False)
    with pytest.raises(ValidationError, match=f"set {cls.key_variable}"):
        cls()
