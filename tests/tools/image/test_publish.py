"""Pictures are published to the user's own storage only, under signatures that the storage verifies."""

import io
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import ValidationError

from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.image.google_vision import GoogleVisionImageSearch
from lensgraph.tools.image.publish import ImagePublisher, S3Publisher, build_publisher
from lensgraph.tools.image.serpapi_lens import SerpApiLensImageSearch
from lensgraph.tools.image.sigv4 import presigned
from lensgraph.tools.results import ToolFailure

from .conftest import Answer, Asked, Service
from .storage import KEY_ID, SECRET, Storage

PICTURE = Image.new("RGB", (320, 200), "red")


@pytest.fixture
def storage(service: Service) -> Storage:
    state = Storage()
    service.answer = state
    return state


def publisher(service: Service, **options: Any) -> S3Publisher:
    keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
    return S3Publisher(**{"bucket": "pictures", "endpoint": service.url, **keys, **options})


def test_the_published_example_of_aws_is_signed_alike() -> None:
    """From "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)"."""
    url = presigned(
        "GET", "https://examplebucket.s3.amazonaws.com/test.txt", key_id="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region="us-east-1", expires=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )  # fmt: skip
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
        "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


async def test_who_has_the_address_reads_the_picture(
    service: Service, storage: Storage, web: httpx.AsyncClient
) -> None:
    async with publisher(service).published(PICTURE) as url:
        pass
    answer = await web.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.content)).size == (320, 200)
    assert storage.refused == []
    assert SECRET not in url


async def test_the_address_lets_nobody_do_more(service: Service, storage: Storage, web: httpx.AsyncClient) -> None:
    async with publisher(service, expires_seconds=60).published(PICTURE) as url:
        assert (await web.put(url, content=b"other")).status_code == 403
        assert (await web.delete(url)).status_code == 403
        assert (await web.get(url.partition("?")[0] + "?")).status_code == 403
        assert (await web.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"))).status_code == 403
        assert (await web.get(url.replace(".jpg", ".png"))).status_code == 403
        storage.now = datetime.now(UTC) + timedelta(seconds=61)
        assert (await web.get(url)).status_code == 403
    assert storage.refused[-1] == "expired"
    assert storage.refused[:-1].count("wrong signature") == 4


async def test_names_cannot_be_guessed_and_have_the_prefix(service: Service, storage: Storage) -> None:
    for _ in range(2):
        async with publisher(service, prefix="a b/ä+").published(PICTURE):
            pass
    first, second = storage.objects
    assert first != second
    assert first.startswith("a b/ä+")
    assert len(first) >= len("a b/ä+") + 32


async def test_a_picture_is_taken_back_when_that_is_wanted(
    service: Service, storage: Storage, web: httpx.AsyncClient
) -> None:
    async with publisher(service, delete_after=True).published(PICTURE) as url:
        assert (await web.get(url)).status_code == 200
    assert storage.objects == {}
    with pytest.raises(RuntimeError):
        async with publisher(service, delete_after=True).published(PICTURE):
            raise RuntimeError("the search failed")
    assert storage.objects == {}


async def test_a_picture_that_cannot_be_taken_back_is_told_in_the_log(
    service: Service, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    async with publisher(service, delete_after=True).published(PICTURE):
        service.answer = Answer(status=500)
    assert "was not deleted" in caplog.text
    assert "X-Amz-Signature" not in caplog.text


@pytest.mark.parametrize("status", [503, 500, 429])
async def test_an_upload_is_tried_again_as_the_storage_asks(service: Service, storage: Storage, status: int) -> None:
    asked: list[float] = []

    def busy_first(one: Asked) -> Answer:
        asked.append(time.monotonic())
        return Answer(status=status, headers={"Retry-After": "1"}) if len(asked) == 1 else storage(one)

    service.answer = busy_first
    async with publisher(service, backoff=0.01).published(PICTURE):
        pass
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1
    assert len(storage.objects) == 1


async def test_tries_end_and_what_cannot_help_is_not_tried_again(service: Service, storage: Storage) -> None:
    for status, headers, tries, reason in (
        (503, {}, 3, "rate_limited"), (403, {}, 1, "unavailable"), (503, {"Retry-After": "900"}, 1, "rate_limited"),
    ):  # fmt: skip
        service.asked.clear()
        service.answer = Answer(status=status, headers=headers)
        with pytest.raises(ToolFailure) as caught:
            async with publisher(service, backoff=0.01).published(PICTURE):
                pass
        assert (len(service.asked), caught.value.reason) == (tries, reason)


async def test_pictures_are_written_in_a_thread(
    service: Service, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a large one would hold up everything else in the event loop."""
    threads: list[int] = []

    def written(*arguments: Any, **options: Any) -> bytes:
        threads.append(threading.get_ident())
        return jpeg(*arguments, **options)

    for module in ("publish", "google_vision", "serpapi_lens"):
        monkeypatch.setattr(f"lensgraph.tools.image.{module}.jpeg", written)
    async with publisher(service).published(PICTURE):
        pass
    service.answer = Answer(status=400)
    await GoogleVisionImageSearch(api_key="key", base_url=service.url).search(PICTURE)
    await SerpApiLensImageSearch(api_key="key", base_url=service.url, upload=True).search(PICTURE)
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_temporary_keys_send_their_token(service: Service, storage: Storage, web: httpx.AsyncClient) -> None:
    async with publisher(service, session_token="tok/en+=").published(PICTURE) as url:
        assert (await web.get(url)).status_code == 200
    assert "X-Amz-Security-Token=tok%2Fen%2B%3D" in url


async def test_the_search_service_may_reach_the_storage_by_another_name(
    service: Service, storage: Storage, web: httpx.AsyncClient
) -> None:
    other = service.url.replace("127.0.0.1", "localhost")
    async with publisher(service, public_endpoint=other + "/").published(PICTURE) as url:
        assert url.startswith(f"{other}/pictures/")
        assert (await web.get(url)).status_code == 200


async def test_keys_and_region_come_from_the_environment(
    service: Service, storage: Storage, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET, "REGION": "eu-west-3"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    async with S3Publisher(bucket="pictures", endpoint=service.url).published(PICTURE) as url:
        assert "%2Feu-west-3%2Fs3%2F" in url
        assert (await web.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("options", "answer", "reason", "words"),
    [
        ({"secret_access_key": "another"}, None, "unavailable", "does not accept the keys for bucket 'pictures'"),
        ({"bucket": "nothing"}, None, "unavailable", "has no bucket 'nothing'"),
        ({}, Answer(status=503), "rate_limited", "slow down"),
        ({}, Answer(status=500), "unavailable", "answers 500"),
        ({}, Answer(status=301), "unavailable", "check endpoint and region"),
        ({"timeout": 0.2}, Answer(delay=1.0), "timeout", "no answer in 0.2 s"),
        ({"endpoint": "http://127.0.0.1:9"}, None, "unavailable", "cannot be reached (ConnectError)"),
    ],
)  # fmt: skip
async def test_every_failure_has_its_reason(
    service: Service, storage: Storage, options: dict[str, Any], answer: Answer | None, reason: str, words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    service.answer = answer or storage
    with pytest.raises(ToolFailure) as caught:
        async with publisher(service, **options).published(PICTURE):
            pass
    assert (caught.value.reason, words in str(caught.value)) == (reason, True), str(caught.value)
    assert "X-Amz" not in str(caught.value) + caplog.text  # signed addresses are as good as keys


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_key_id": "", "secret_access_key": ""}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"endpoint": "minio.example.org"}, "endpoint 'minio.example.org' is no address"),
        ({"public_endpoint": "ftp://x"}, "public_endpoint 'ftp://x' is no address"),
        ({"expires_seconds": 10**7}, "less than or equal to 604800"),
        ({"bukket": "x"}, "bukket"),
    ],
)
def test_configuration_that_cannot_work_is_refused(service: Service, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        publisher(service, **options)


def test_secrets_are_not_shown(service: Service) -> None:
    shown = publisher(service)
    assert SECRET not in f"{shown!r}{shown}{shown.model_dump()}{shown.model_dump_json()}"


def test_a_publisher_is_built_by_name_or_import_path(service: Service) -> None:
    keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
    assert isinstance(build_publisher({"use": "s3", "bucket": "b", **keys}), S3Publisher)
    assert isinstance(
        build_publisher({"use": "lensgraph.tools.image.publish:S3Publisher", "bucket": "b", **keys}), ImagePublisher
    )
    for use in (
        None,
        "imgur",
        "no.such:Thing",
        "lensgraph.tools.image.publish:Nothing",
        "lensgraph.tools.image.sigv4:presigned",
    ):
        with pytest.raises(ValueError, match="publisher"):
            build_publisher({"use": use})
