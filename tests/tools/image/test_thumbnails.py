"""Thumbnails are decoded beside the search, and one that is late holds nothing."""

import base64
import io
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from lensgraph.tools.image import thumbnails
from lensgraph.tools.results import Hit

HIT = Hit(title="a", url="https://example.org/", snippet="")

LATE = """
import asyncio, time
from lensgraph.tools.image import thumbnails
from lensgraph.tools.results import Hit

thumbnails.SECONDS = 0.2
thumbnails._small = lambda data: time.sleep(30)
hit = Hit(title="a", url="https://example.org/", snippet="")
print(asyncio.run(thumbnails.with_thumbnails([hit], ["data:image/png;base64,AAAA"]))[0].thumbnail)
"""


def source(size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


async def test_a_picture_becomes_a_small_jpeg_and_a_broken_one_costs_only_itself() -> None:
    hits = await thumbnails.with_thumbnails(
        [HIT] * 4, [source((600, 300)), "data:image/png;base64,AAAA", None, "/etc/hosts"]
    )
    assert [hit.thumbnail is not None for hit in hits] == [True, False, False, False]
    assert hits[0].thumbnail is not None
    assert Image.open(io.BytesIO(hits[0].thumbnail)).size == (256, 128)


async def test_a_picture_over_the_cap_of_a_thumbnail_is_left_out() -> None:
    assert (await thumbnails.with_thumbnails([HIT], [source((4000, 3001))]))[0].thumbnail is None


async def test_a_late_thumbnail_does_not_hold_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def late(data: bytes) -> bytes:
        free.wait(20)
        return b""

    monkeypatch.setattr(thumbnails, "_small", late)
    monkeypatch.setattr(thumbnails, "SECONDS", 0.1)
    started = time.monotonic()
    assert (await thumbnails.with_thumbnails([HIT], [source((9, 9))]))[0].thumbnail is None
    assert time.monotonic() - started < 5
    free.set()


def test_a_late_thumbnail_does_not_hold_the_end_of_the_process() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "None"
    assert done.stderr == ""
    assert time.monotonic() - started < 25
