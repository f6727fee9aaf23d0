"""Google Cloud Vision's web detection, against a server on this machine.

Checked against: the REST reference of images.annotate v1 (AnnotateImageRequest and -Response, WebDetection), Google's page on
API keys (header x-goog-api-key), google.rpc.Status for errors inside an answer of status 200.
"""

import base64
import io
import json
import logging
from ipaddress import ip_network
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from lensgraph.tools import guard
from lensgraph.tools.image import thumbnails
from lensgraph.tools.image.google_vision import MAX_IMAGE_BYTES, GoogleVisionImageSearch

from .conftest import Answer, Asked, Service

KEY = "AIza-very-secret-key"
PICTURE = Image.new("RGB", (320, 200), "red")
PAGE = {
    "url": "https://example.org/mill", "pageTitle": "The <b>mills</b> of Kinderdijk &amp; more",
    "fullMatchingImages": [{"url": "https://example.org/mill.jpg"}],
}  # fmt: skip
DETECTION = {
    "webEntities": [
        {"entityId": "/m/0x", "score": 1.2, "description": "Kinderdijk"},
        {"entityId": "/m/0y", "score": 0.7},
        {"entityId": "/m/0z", "score": 0.6, "description": "Windmill"},
    ],
    "fullMatchingImages": [{"url": "https://example.org/mill.jpg"}],
    "pagesWithMatchingImages": [PAGE, {"url": "https://example.org/2", "partialMatchingImages": [{"url": "x"}]}, {}],
    "visuallySimilarImages": [{"url": "https://example.org/other.jpg"}],
    "bestGuessLabels": [{"label": "kinderdijk windmills", "languageCode": "en"}],
}


def detected(found: Any) -> Answer:
    return Answer({"responses": [{"webDetection": found}]})


def search(service: Service, **options: Any) -> GoogleVisionImageSearch:
    defaults = {"api_key": KEY, "thumbnails": False, "backoff": 0.01}
    return GoogleVisionImageSearch(base_url=service.url, **{**defaults, **options})


async def test_the_picture_goes_out_as_bytes_and_pages_come_back(service: Service) -> None:
    service.answer = detected(DETECTION)
    result = await search(service).search(PICTURE)
    assert result.error is None
    assert [(hit.title, hit.url) for hit in result.hits] == [
        ("Best guess: kinderdijk windmills (related: Kinderdijk, Windmill)", "google-vision:guess"),
        ("The mills of Kinderdijk & more", "https://example.org/mill"),
        ("https://example.org/2", "https://example.org/2"),
    ]
    assert result.price == 0.0035
    asked = service.asked[0]
    assert (asked.method, asked.path, asked.query) == ("POST", "/v1/images:annotate", {})
    assert asked.headers["x-goog-api-key"] == KEY
    (request,) = asked.json()["requests"]
    assert request["features"] == [{"type": "WEB_DETECTION", "maxResults": 5}]
    sent = Image.open(io.BytesIO(base64.b64decode(request["image"]["content"])))
    assert (sent.format, sent.size) == ("JPEG", (320, 200))


async def test_the_number_of_results_is_kept_and_the_guess_can_be_left_out(service: Service) -> None:
    service.answer = detected(DETECTION)
    assert len((await search(service, k=2).search(PICTURE)).hits) == 2
    titles = [hit.title for hit in (await search(service, entities=False, k=1).search(PICTURE)).hits]
    assert titles == ["The mills of Kinderdijk & more"]


async def test_a_guess_alone_is_a_result(service: Service) -> None:
    service.answer = detected({"webEntities": [{"description": "Windmill"}]})
    result = await search(service).search(PICTURE)
    assert [hit.title for hit in result.hits] == ["What the picture seems to show (related: Windmill)"]


async def test_a_large_picture_is_sent_smaller(service: Service) -> None:
    service.answer = detected(DETECTION)
    await search(service).search(Image.effect_noise((1800, 1350), 120).convert("RGB"))
    content = service.asked[0].json()["requests"][0]["image"]["content"]
    assert len(service.asked[0].body) < 10_000_000  # what Google takes
    assert len(base64.b64decode(content)) <= MAX_IMAGE_BYTES
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (1600, 1200)


async def test_metadata_of_the_picture_stays_here(service: Service, tmp_path: Any) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    PICTURE.save(tmp_path / "x.jpg", exif=exif, comment=b"taken at home")
    service.answer = detected(DETECTION)
    await search(service).search(tmp_path / "x.jpg")
    assert b"taken at home" not in base64.b64decode(service.asked[0].json()["requests"][0]["image"]["content"])


async def test_thumbnails_come_through_the_guard(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (900, 600), "blue").save(picture, "PNG")
    page = {**PAGE, "fullMatchingImages": [{"url": f"{service.url}/mill.png"}]}

    def answer(asked: Asked) -> Answer:
        return (
            Answer(picture.getvalue()) if asked.path == "/mill.png" else detected({"pagesWithMatchingImages": [page]})
        )

    service.answer = answer
    tool = search(service, thumbnails=True)
    refused = await tool.search(PICTURE)
    assert refused.hits[0].thumbnail is None  # a private address is not fetched, and costs only itself
    assert [asked.path for asked in service.asked] == ["/v1/images:annotate"]
    port = int(service.url.rpartition(":")[2])
    here = guard.FetchPolicy(ports=frozenset({port}), networks=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(thumbnails, "POLICY", here)
    thumbnail = (await tool.search(PICTURE)).hits[0].thumbnail
    assert thumbnail is not None
    assert Image.open(io.BytesIO(thumbnail)).size == (256, 171)


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
                         "status": "INVALID_ARGUMENT"}}, "unavailable"),
        (400, {"error": {"code": 400, "message": "Request must specify image.", "status": "INVALID_ARGUMENT"}}, "bad_input"),
        (403, {"error": {"code": 403, "message": "Cloud Vision API has not been used", "status": "PERMISSION_DENIED"}},
         "unavailable"),
        (429, {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}, "rate_limited"),
        (500, {}, "unavailable"),
        (200, {"responses": [{"error": {"code": 3, "message": "Bad image data."}}]}, "bad_input"),
        (200, {"responses": [{"error": {"code": 7, "message": "The caller does not have permission"}}]}, "unavailable"),
        (200, {"responses": [{"error": {"code": 8, "message": "Quota"}}]}, "rate_limited"),
        (200, {"responses": [{"error": {"code": 4, "message": "Deadline"}}]}, "timeout"),
        (200, {"responses": [{"error": {"code": 14, "message": "Try again"}}]}, "unavailable"),
        (200, {"responses": [{"error": "odd"}]}, "unavailable"),
        (200, {"responses": [{}]}, "empty"),
        (200, {"responses": [{"webDetection": {}}]}, "empty"),
        (200, {"responses": []}, "malformed"),
        (200, {"responses": "odd"}, "malformed"),
        (200, {"responses": [{"webDetection": ["odd"]}]}, "malformed"),
        (200, {"responses": [{"webDetection": {"pagesWithMatchingImages": "odd"}}]}, "malformed"),
        (200, [], "malformed"),
        (200, b"<html>", "malformed"),
        (200, b"x" * 5_000_000, "malformed"),
    ],
)  # fmt: skip
async def test_every_failure_has_its_reason_and_costs_nothing(
    service: Service, status: int, answer: Any, reason: str
) -> None:
    service.answer = Answer(answer, status)
    result = await search(service).search(PICTURE)
    assert result.error is not None
    assert (result.error.reason, result.price) == (reason, 0)
    assert KEY not in result.error.message


async def test_a_temporary_refusal_is_tried_again(service: Service) -> None:
    def answer(_: Asked) -> Answer:
        return Answer({}, 429, {"Retry-After": "0"}) if len(service.asked) < 3 else detected(DETECTION)

    service.answer = answer
    assert (await search(service).search(PICTURE)).error is None
    assert len(service.asked) == 3


async def test_a_slow_service_is_a_timeout(service: Service) -> None:
    service.answer = Answer({}, delay=1.0)
    result = await search(service, timeout=0.2).search(PICTURE)
    assert result.error is not None
    assert result.error.reason == "timeout"


async def test_the_key_is_shown_nowhere(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    service.answer = Answer({"error": {"message": f"key {KEY} is odd"}}, 404)
    tool = search(service)
    result = await tool.search(PICTURE)
    assert KEY not in f"{result!r}{tool!r}{tool.model_dump()}{json.dumps(service.asked[0].query)}"
    assert KEY not in "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")
    )


def test_the_tool_works_without_an_event_loop_too(service: Service) -> None:
    service.answer = detected(DETECTION)
    assert search(service).invoke({"image": PICTURE}).startswith("1. Best guess: kinderdijk windmills")


def test_without_a_key_the_tool_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_VISION_API_KEY", raising=False)
    with pytest.raises(ValidationError, match="set GOOGLE_VISION_API_KEY"):
        GoogleVisionImageSearch()
    monkeypatch.setenv("GOOGLE_VISION_API_KEY", KEY)
    assert GoogleVisionImageSearch().key == KEY
