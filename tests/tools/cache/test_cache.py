"""The same question is asked once: by siblings, threads and processes; and what is kept is given out for nothing."""

import asyncio
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import check_commands
import numpy as np
import pytest
from PIL import Image
from pydantic import Field, SecretStr

from lensgraph.graphs.program.main import main
from lensgraph.tools import registry
from lensgraph.tools.base import ImageSearch, Locator, TextSearch
from lensgraph.tools.cache import EMPTY_SECONDS, Cache, CacheSettings, cache_store, shared
from lensgraph.tools.cache import key as cache_key
from lensgraph.tools.cache.by_settings import _by_settings
from lensgraph.tools.results import Box, Hit, LocateResult, Region, SearchResult, ToolError, ToolFailure


class Words(TextSearch):
    """Answers after a moment and remembers what it was asked."""

    asked: list[str] = Field(default_factory=list, exclude=True)
    wait: float = Field(default=0.05, exclude=True)
    act: Any = Field(default=None, exclude=True)
    api_key: SecretStr | None = None
    where: str = "a"
    price_per_call: float = 0.5

    async def asearch(self, query: str) -> SearchResult:
        self.asked.append(query)
        await asyncio.sleep(self.wait)
        if self.act is not None:
            return self.act(query)
        hits = [Hit(title=f"About {query}", url="u", snippet="S", score=0.5, thumbnail=b"\xff\x00")]
        return SearchResult(kind="text", query=query, hits=hits)


class Look(ImageSearch):
    """Remembers the pictures."""

    asked: list[tuple[int, int]] = Field(default_factory=list, exclude=True)

    async def asearch(self, image: Image.Image) -> SearchResult:
        self.asked.append(image.size)
        return SearchResult(kind="image", query=f"image {image.width}", hits=[Hit(title="T", url="u")])


class Point(Locator):
    """Remembers what it was to find."""

    asked: list[str] = Field(default_factory=list, exclude=True)

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        self.asked.append(expression)
        return LocateResult(expression=expression, regions=[Region(box=Box(left=0, top=0, right=1, bottom=1), score=1)])


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheSettings(folder=str(tmp_path / "cache")))


def reason(result: SearchResult | LocateResult) -> str | None:
    return result.error and result.error.reason


# --- one call for all


async def test_64_siblings_with_20_questions_at_once_cause_20_calls(cache: Cache) -> None:
    tool = Words().use_cache(cache)
    results = await asyncio.gather(*(tool.search(f"Question {n % 20}") for n in range(64)))
    assert sorted(tool.asked) == sorted(f"Question {n}" for n in range(20))
    assert {result.hits[0].title for result in results[20:40]} == {f"About Question {n}" for n in range(20)}
    assert sum(result.price for result in results) == 20 * 0.5
    assert sum(result.cached for result in results) == 44
    assert (cache.counts.calls, cache.counts.joined) == (20, 44)


def test_siblings_in_threads_with_event_loops_of_their_own_share_calls_too(cache: Cache) -> None:
    tool = Words(wait=0.3).use_cache(cache)
    start, results = threading.Barrier(8), []

    def sibling(number: int) -> None:
        async def searches() -> list[SearchResult]:
            return await asyncio.gather(*(tool.search(f"q {(number * 8 + n) % 20}") for n in range(8)))

        start.wait()
        results.extend(asyncio.run(searches()))

    threads = [threading.Thread(target=sibling, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 64
    assert all(result.hits for result in results)
    assert len(tool.asked) == len(set(tool.asked)) == 20


def test_synchronous_callers_share_what_is_kept(cache: Cache) -> None:
    tool = Words().use_cache(cache)
    assert tool.invoke({"query": "one"}) == tool.invoke({"query": "ONE "})
    assert tool.asked == ["one"]


SIBLINGS = """
import asyncio, os, sys, time
from lensgraph.tools.base import TextSearch
from lensgraph.tools.cache import Cache
from lensgraph.tools.cache import CacheSettings
from lensgraph.tools.results import Hit
from lensgraph.tools.results import SearchResult

class Words(TextSearch):
    log: str
    async def asearch(self, query):
        with open(self.log, "a") as log:
            log.write(query + chr(10))
        await asyncio.sleep(float(sys.argv[4]))
        return SearchResult(kind="text", query=query, hits=[Hit(title="About " + query, url="u")])

async def searches():
    tool = Words(log=sys.argv[2]).use_cache(Cache(CacheSettings(folder=sys.argv[1])))
    print("ready", flush=True)
    sys.stdin.readline()
    first = int(sys.argv[3])
    results = await asyncio.gather(*(tool.search(f"q {(first + n) % 20}") for n in range(16)))
    print(sum(bool(result.hits) for result in results), flush=True)

asyncio.run(searches())
"""


def process(folder: Path, log: Path, first: int, wait: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SIBLINGS, str(folder), str(log), str(first), str(wait)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_siblings_in_four_processes_share_calls_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [process(tmp_path / "cache", log, 16 * number, 0.5) for number in range(4)]
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    said = [one.communicate("go\n")[0] for one in processes]
    assert said == ["16\n"] * 4
    assert sorted(log.read_text().split("\n")[:-1]) == sorted(f"q {n}" for n in range(20))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
async def test_a_process_that_is_killed_while_it_asks_blocks_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log"
    one = process(tmp_path / "cache", log, 0, 60)
    assert one.stdin is not None
    one.stdin.write("go\n")
    one.stdin.flush()
    for _ in range(600):
        if log.exists() and log.read_text().count("\n") == 16:
            break
        await asyncio.sleep(0.05)
    other = Cache(CacheSettings(folder=str(tmp_path / "cache")))
    identity_of_the_other_process = _claims(other)
    assert len(identity_of_the_other_process) == 16
    one.kill()
    one.communicate()
    owner, began = "me", time.monotonic()
    key = identity_of_the_other_process[0]
    while other.store.look_or_claim(key, "", cache_key.words(""), owner) is not True:
        assert time.monotonic() - began < cache_store.LEASE_SECONDS + 2
        await asyncio.sleep(0.05)


def _claims(cache: Cache) -> list[str]:
    with sqlite3.connect(cache.store.path) as db:
        return [row[0] for row in db.execute("SELECT key FROM claims")]


async def test_a_call_that_takes_longer_than_a_lease_keeps_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lensgraph.tools.cache.cache", "lensgraph.tools.cache.cache_store"):
        monkeypatch.setattr(f"{module}.LEASE_SECONDS", 0.6)
    folder = str(tmp_path / "cache")
    one, two = (Words(wait=2.0).use_cache(Cache(CacheSettings(folder=folder))) for _ in range(2))
    first = asyncio.create_task(one.search("q"))
    await asyncio.sleep(0.2)
    second = await two.search("q")
    assert second.cached
    assert (one.asked, two.asked) == (["q"], [])
    assert not (await first).cached


async def test_if_whoever_asks_is_cancelled_the_next_one_asks(cache: Cache) -> None:
    tool = Words(wait=0.3).use_cache(cache)
    first = asyncio.create_task(tool.search("q"))
    await asyncio.sleep(0.1)
    others = [asyncio.create_task(tool.search("q")) for _ in range(5)]
    await asyncio.sleep(0.05)
    first.cancel()
    results = await asyncio.gather(*others)
    assert all(result.hits for result in results)
    assert tool.asked == ["q", "q"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_leads_after_waiting_and_runs_out_of_time_lands_no_timeout_on_others(cache: Cache) -> None:
    """Its own time was nearly used up by waiting for a caller that was cancelled; the service was not slow."""
    tool = Words(wait=0.8, timeout=1.2).use_cache(cache)
    first = asyncio.create_task(tool.search("q"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(tool.search("q"))  # has until 1.3 s
    await asyncio.sleep(0.6)
    first.cancel()  # the second asks anew at 0.7 s, and would be told at 1.5 s
    await asyncio.sleep(0.4)
    third = asyncio.create_task(tool.search("q"))  # has until 2.3 s, asks at 1.3 s, is told at 2.1 s
    assert reason(await second) == "timeout"
    assert (await third).hits
    assert tool.asked == ["q", "q", "q"]


async def test_a_waiter_that_is_cancelled_disturbs_nobody(cache: Cache) -> None:
    tool = Words(wait=0.2).use_cache(cache)
    first = asyncio.create_task(tool.search("q"))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(tool.search("q"))
    await asyncio.sleep(0.05)
    second.cancel()
    assert (await first).hits
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_timeout_is_everybodys_timeout_and_one_call(cache: Cache) -> None:
    tool = Words(wait=30, timeout=0.4).use_cache(cache)
    results = await asyncio.gather(*(tool.search("q") for _ in range(8)))
    assert {reason(result) for result in results} == {"timeout"}
    assert tool.asked == ["q"]


async def _one_after_the_other(leader: Words, waiter: Words) -> tuple[SearchResult, SearchResult]:
    """Both ask the same, the waiter when the leader's call is under way."""
    first = asyncio.create_task(leader.search("q"))
    while not leader.asked:  # noqa: ASYNC110 - it is a list of the test's
        await asyncio.sleep(0.01)
    second = await waiter.search("q")
    return await first, second


async def test_who_has_more_time_does_not_share_the_timeout_of_who_had_less(cache: Cache) -> None:
    hasty, patient = (Words(wait=2, timeout=timeout).use_cache(cache) for timeout in (0.5, 60))
    first, second = await _one_after_the_other(hasty, patient)
    assert reason(first) == "timeout"
    assert second.hits
    assert (hasty.asked, patient.asked) == (["q"], ["q"])


async def test_who_has_a_little_more_time_is_told_whose_time_ran_out(cache: Cache) -> None:
    hasty, other = (Words(wait=60, timeout=timeout).use_cache(cache) for timeout in (2, 3))
    _, second = await _one_after_the_other(hasty, other)
    assert second.error is not None
    assert second.error.message == "Words: no answer in the 2 s of another caller who asked the same."
    assert other.asked == []


async def test_a_failure_is_shared_by_those_who_waited_and_then_forgotten(cache: Cache) -> None:
    def fail(query: str) -> SearchResult:
        raise ToolFailure("rate_limited", "slow down")

    tool = Words(act=fail).use_cache(cache)
    results = await asyncio.gather(*(tool.search("q") for _ in range(8)))
    assert {reason(result) for result in results} == {"rate_limited"}
    assert {result.price for result in results} == {0.0}
    assert len(tool.asked) == 1
    tool.act = None
    assert (await tool.search("q")).hits
    assert not (await tool.search("Q")).price


@pytest.mark.parametrize("problem", [RuntimeError("boom"), KeyError("hits"), TimeoutError()])
async def test_any_exception_reaches_all_who_waited(cache: Cache, problem: Exception) -> None:
    def fail(query: str) -> SearchResult:
        raise problem

    tool = Words(act=fail).use_cache(cache)
    results = await asyncio.gather(*(tool.search("q") for _ in range(4)))
    assert len({str(result.error) for result in results}) == 1
    assert len(tool.asked) == 1


async def test_a_result_that_holds_an_error_is_not_kept(cache: Cache) -> None:
    error = ToolError(reason="unavailable", message="down")
    tool = Words(act=lambda query: SearchResult(kind="text", query=query, error=error)).use_cache(cache)
    assert reason(await tool.search("q")) == reason(await tool.search("q")) == "unavailable"
    assert len(tool.asked) == 2


# --- what is the same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("kenya anthem", "  Kenya \t ANTHEM\n", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("kenya anthem", "kenya anthems", False),
        ("Ma\u00dfe", "Masse", False),
        ("caf\u00e9", "cafe", False),
        ("a+b", "a b", False),
        ("H\u00b2O", "H2O", False),
    ],
)
def test_words_are_the_same_but_for_case_spaces_and_composition(one: str, other: str, same: bool) -> None:
    assert (cache_key.words(one) == cache_key.words(other)) is same


def test_in_addresses_every_letter_counts() -> None:
    assert cache_key.exact("http://a/B") != cache_key.exact("http://a/b")
    assert cache_key.exact("a", "b") != cache_key.exact("a b")
    assert cache_key.exact("q").key != cache_key.words("q").key


async def test_settings_that_change_an_answer_are_part_of_the_question_and_keys_are_not(cache: Cache) -> None:
    asked: list[str] = []
    variants = [
        Words(), Words(k=3), Words(where="b"), Words(timeout=9), Words(price_per_call=1), Words(api_key=SecretStr("s")),
    ]  # fmt: skip
    for tool in variants:
        tool.asked = asked
        await tool.use_cache(cache).search("q")
    assert len(asked) == 3


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed: int = 0) -> Image.Image:
    grain = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize((320, 240), Image.Resampling.BICUBIC)


async def test_equal_pixels_are_the_same_picture_whatever_the_file(tmp_path: Path) -> None:
    cache = Cache(CacheSettings(folder=str(tmp_path), near_pictures=False))
    tool, picture = Look().use_cache(cache), photograph()
    for given in (picture, encoded(picture, "PNG"), encoded(picture, "BMP"), encoded(picture, "PNG", dpi=(72, 72))):
        assert (await tool.search(given)).hits
    assert len(tool.asked) == 1
    changed = picture.copy()
    changed.putpixel((5, 5), (1, 2, 3))
    assert not (await tool.search(changed)).cached
    assert not (await tool.search(encoded(picture, "JPEG", quality=90))).cached
    assert len(tool.asked) == 3


async def test_a_picture_that_was_saved_or_scaled_again_is_the_same_question(cache: Cache) -> None:
    tool, picture = Look().use_cache(cache), photograph()
    await tool.search(picture)
    slightly = picture.resize((314, 235), Image.Resampling.LANCZOS)
    again = [encoded(picture, "JPEG", quality=80), encoded(picture, "WEBP", quality=80), slightly]
    again += [picture.resize((326, 245), Image.Resampling.BICUBIC), encoded(slightly, "JPEG", quality=85)]
    for given in again:
        assert (await tool.search(given)).cached
    assert cache.counts.near == len(again)
    assert len(tool.asked) == 1
    other = Look(k=2).use_cache(cache)
    assert not (await other.search(encoded(picture, "JPEG", quality=80))).cached


async def test_a_picture_that_was_changed_cropped_stretched_or_made_much_smaller_is_another(cache: Cache) -> None:
    tool, picture = Look().use_cache(cache), photograph()
    await tool.search(picture)
    patched, turned = picture.copy(), picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patched.paste((255, 255, 255), (100, 100, 106, 106))
    changed = [photograph(1), patched, turned, picture.crop((4, 4, 316, 236)), picture.crop((0, 0, 310, 240))]
    changed += [picture.resize((314, 240)), picture.resize((160, 120))]
    for given in changed:
        assert not (await tool.search(given)).cached
    assert len(tool.asked) == 1 + len(changed)


async def test_a_picture_too_large_for_a_sketch_matches_by_its_pixels(cache: Cache) -> None:
    tool, picture = Look().use_cache(cache), photograph().resize((cache_key.SKETCHED + 1, 900))
    assert cache_key.sketch(picture) is None
    await tool.search(picture)
    assert (await tool.search(encoded(picture, "PNG"))).cached
    assert not (await tool.search(encoded(picture, "JPEG", quality=95))).cached


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (31, 17), (1448, 1448)])
def test_a_picture_of_any_size_has_a_sketch_and_is_like_itself(size: tuple[int, int]) -> None:
    picture = photograph().resize(size)
    made = cache_key.sketch(picture)
    assert made is not None and len(made) <= 100_000
    assert cache_key.difference(made, cache_key.sketch(picture) or b"") == 0
    assert cache_key.same_shape(size, size)


async def test_a_place_is_found_in_equal_pixels_only(tmp_path: Path) -> None:
    tool = Point().use_cache(Cache(CacheSettings(folder=str(tmp_path), near_pictures=True)))
    picture = photograph()
    for given in (picture, encoded(picture, "PNG"), encoded(picture, "JPEG", quality=95)):
        await tool.locate(given, "the Flag")
    assert (await tool.locate(picture, "the flag")).cached is False
    assert tool.asked == ["the Flag", "the Flag", "the flag"]


def test_no_two_drawings_of_the_embedded_world_are_merged(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_commands.main(["pictures", "--every", "40", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["pairs"] > 800_000
    assert measured["merged"] == 0
    assert measured["closest"] > 2 * cache_key.NEAR
    assert measured["saved_again"]["JPEG 85"]["within"] > 0.98
    assert measured["saved_again"]["98 %"]["within"] > 0.95
    assert measured["digit_changed"]["14 pixels"] == 0


# --- what is kept


async def test_a_kept_answer_is_the_same_says_so_and_costs_nothing(cache: Cache) -> None:
    tool = Words().use_cache(cache)
    first, second = await tool.search("Kenya"), await tool.search("kenya  ")
    assert (first.cached, first.price, second.cached, second.price) == (False, 0.5, True, 0.0)
    assert second.query == "kenya"
    assert second.hits == first.hits
    assert second.hits[0].thumbnail == b"\xff\x00"


async def test_nothing_found_is_kept_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    cache = Cache(CacheSettings(folder=str(tmp_path)), clock=clock)
    tools = [
        Words(act=lambda query: SearchResult(kind="text", query=query)),
        Words(where="b", act=lambda query: (_ for _ in ()).throw(ToolFailure("empty", "none"))),
    ]
    for tool in tools:
        tool.use_cache(cache)
        assert reason(await tool.search("q")) == reason(await tool.search("q")) == "empty"
        assert len(tool.asked) == 1
    clock.now += EMPTY_SECONDS + 1
    for tool in tools:
        await tool.search("q")
        assert len(tool.asked) == 2


async def test_an_old_answer_is_asked_anew(tmp_path: Path) -> None:
    clock = Clock()
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path), ttl=100), clock=clock))
    await tool.search("q")
    clock.now += 99
    assert (await tool.search("q")).cached
    clock.now += 2
    assert not (await tool.search("q")).cached
    assert (await tool.search("q")).cached
    for_ever = Words(where="b").use_cache(Cache(CacheSettings(folder=str(tmp_path), ttl=None), clock=clock))
    await for_ever.search("q")
    clock.now += 1e9
    assert (await for_ever.search("q")).cached


@pytest.mark.parametrize(("back", "kept"), [(99, True), (101, False), (1e9, False)])
async def test_an_answer_from_before_the_clock_was_set_back_lives_no_longer_than_twice_its_time(
    tmp_path: Path, back: float, kept: bool
) -> None:
    clock = Clock()
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path), ttl=100), clock=clock))
    await tool.search("q")
    clock.now -= back
    assert (await tool.search("q")).cached is kept
    clock.now += back + 101
    assert not (await tool.search("q")).cached


async def test_a_claim_from_before_the_clock_was_set_back_blocks_nobody(tmp_path: Path) -> None:
    """Its holder was killed, and no clock will ever come to the end of its claim."""
    clock = Clock()
    held = cache_store.Store(tmp_path, max_bytes=10**6, clock=clock)
    question = cache_key.words("q")
    assert held.look_or_claim("k", "s", question, "one") is True
    clock.now -= 1
    assert held.look_or_claim("k", "s", question, "two") is False, "a clock that is corrected a little ends no claim"
    clock.now -= 3600
    assert held.look_or_claim("k", "s", question, "two") is True


@pytest.mark.parametrize("damage", ["x'00ff'", "'text'", "7", "x''", "x'616e7377657220'"])
async def test_a_damaged_answer_is_asked_for_again_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path))))
    await tool.search("q")
    with sqlite3.connect(tmp_path / cache_store.FILE) as database:
        database.execute(f"update entries set value = {damage}")
    database.close()
    assert not (await tool.search("q")).cached
    assert "Words is damaged or of another version; it is asked for again" in caplog.text
    assert (await tool.search("q")).cached
    assert len(tool.asked) == 2


async def test_a_cache_whose_folder_was_removed_keeps_answers_again(tmp_path: Path) -> None:
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path / "cache"))))
    await tool.search("q")
    shutil.rmtree(tmp_path / "cache")
    for _ in range(3):
        assert (await tool.search("p")).hits
    assert (await tool.search("p")).cached


async def test_what_was_recorded_for_ever_is_used_for_no_longer_than_is_asked_for_now(tmp_path: Path) -> None:
    clock = Clock()

    def caches(ttl: float | None) -> tuple[Words, Look]:
        cache = Cache(CacheSettings(folder=str(tmp_path), ttl=ttl), clock=clock)
        return Words().use_cache(cache), Look().use_cache(cache)

    drawing = photograph()
    for tool, question in zip(caches(None), ("q", drawing), strict=True):
        await tool.search(question)  # type: ignore[arg-type]
    clock.now += 61
    again = drawing.resize((drawing.width + 1, drawing.height + 1))  # found as nearly equal
    for tool, question in zip(caches(None), ("q", again), strict=True):
        assert (await tool.search(question)).cached  # type: ignore[arg-type]
    for tool, question in zip(caches(60), ("q", again), strict=True):
        assert not (await tool.search(question)).cached  # type: ignore[arg-type]


async def test_the_cap_holds_and_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    clock = Clock()
    cap = 200_000
    cache = Cache(CacheSettings(folder=str(tmp_path), max_bytes=cap), clock=clock)

    def big(query: str) -> SearchResult:
        return SearchResult(kind="text", query=query, hits=[Hit(title="T", url="u", snippet="x" * 9_000)])

    tool = Words(wait=0, act=big).use_cache(cache)
    await tool.search("favourite")
    for n in range(100):
        clock.now += 1
        await tool.search(f"q {n}")
        clock.now += 1
        assert (await tool.search("favourite")).cached
        assert sum(row.bytes for row in cache.stats()) <= cap
    assert cache.counts.evicted > 70
    asked = len(tool.asked)
    assert (await tool.search("q 99")).cached
    assert not (await tool.search("q 50")).cached
    assert len(tool.asked) == asked + 1
    cache.store.close()  # the last connection folds the log into the file
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1.5 * cap


async def test_an_answer_larger_than_the_cache_is_given_and_not_kept(tmp_path: Path) -> None:
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path), max_bytes=100)))
    assert (await tool.search("q")).hits
    assert not (await tool.search("q")).cached


async def test_an_entry_of_another_version_is_asked_anew(cache: Cache) -> None:
    tool = Words().use_cache(cache)
    await tool.search("q")
    with sqlite3.connect(cache.store.path) as db:
        db.execute("UPDATE entries SET value = ?", (b'answer {"kind": "smell"}',))
    assert (await tool.search("q")).hits
    assert (await tool.search("q")).cached
    assert len(tool.asked) == 2


async def test_a_file_that_cannot_be_used_costs_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / cache_store.FILE).write_bytes(b"not a database at all" * 100)
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path))))
    for _ in range(2):
        assert (await tool.search("q")).hits
    (tmp_path / "file").touch()
    blocked = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path / "file" / "below"))))
    assert (await blocked.search("q")).hits
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "once for each cache"
    assert all("cannot be used" in line and "paid for again" in line and "\n" not in line for line in said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_uses_the_cache_too(cache: Cache) -> None:
    tool = Words().use_cache(cache)
    await tool.search("q")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found: list[SearchResult] = []
            thread = threading.Thread(target=lambda: found.append(asyncio.run(tool.search("q"))))
            thread.start()
            thread.join(20)
            code = 0 if found and found[0].cached else 1
        finally:
            os._exit(code)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 (it does not wait)
        if done:
            break
        await asyncio.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child hangs")
    assert status == 0
    assert (await tool.search("q")).cached


# --- replay


async def test_a_replay_answers_from_what_was_kept_and_calls_nobody(tmp_path: Path) -> None:
    clock = Clock()
    recorded = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path), ttl=10), clock=clock))
    first = await recorded.search("q")
    clock.now += 1_000
    cache = Cache(CacheSettings(folder=str(tmp_path), mode="replay"), clock=clock)
    replayed = Words(api_key=SecretStr("another"), timeout=1).use_cache(cache)
    again = await replayed.search("Q")
    assert again.hits == first.hits
    assert again.cached
    missed = await replayed.search("something else")
    assert missed.error is not None
    assert missed.error.reason == "unavailable"
    assert "not in the recorded run" in missed.error.message
    assert "\n" not in missed.error.message
    assert replayed.asked == []
    assert (cache.counts.hits, cache.counts.missing, cache.counts.calls) == (1, 1, 0)


async def test_a_replay_changes_nothing_and_reads_a_folder_that_nobody_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    keeper = Cache(CacheSettings(folder=str(folder)))
    await Words().use_cache(keeper).search("q")
    keeper.store.close()
    before = (folder / cache_store.FILE).read_bytes()
    (folder / cache_store.FILE).chmod(0o444)
    folder.chmod(0o555)
    try:
        replayed = Words().use_cache(Cache(CacheSettings(folder=str(folder), mode="replay")))
        assert (await replayed.search("q")).cached
        assert reason(await replayed.search("p")) == "unavailable"
        assert (folder / cache_store.FILE).read_bytes() == before
    finally:
        folder.chmod(0o755)


async def test_a_replay_without_a_recording_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tool = Words().use_cache(Cache(CacheSettings(folder=str(tmp_path / "none"), mode="replay")))
    result = await tool.search("q")
    assert "cannot be used" in caplog.text
    assert reason(result) == "unavailable"
    assert tool.asked == []
    assert not (tmp_path / "none").exists()


# --- by configuration


def test_the_registry_gives_tools_their_cache_but_not_those_of_this_machine(cache: Cache) -> None:
    spec = {"use": "tavily", "api_key": "k" * 9}
    assert registry.build("text_search", spec, cache)._cache is cache
    assert registry.build("text_search", spec)._cache is None
    for kind in ("text_search", "image_search", "locate"):
        assert registry.build(kind, {"use": "local"}, cache)._cache is None


def test_a_replay_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    with pytest.raises(registry.ToolConfigError, match="TAVILY_API_KEY"):
        registry.build("text_search", {"use": "tavily"}, Cache(CacheSettings(folder=str(tmp_path))))
    replaying = Cache(CacheSettings(folder=str(tmp_path), mode="replay"))
    assert registry.build("text_search", {"use": "tavily"}, replaying)._cache is replaying


def test_one_cache_a_process_for_equal_settings_and_none_if_it_is_off(tmp_path: Path) -> None:
    settings = CacheSettings(folder=str(tmp_path))
    assert shared(settings) is shared(CacheSettings(folder=str(tmp_path)))
    assert shared(settings) is not shared(CacheSettings(folder=str(tmp_path), ttl=1))
    assert shared(CacheSettings(mode="off")) is None


def test_caches_of_settings_that_are_not_used_any_more_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensgraph.tools.cache.by_settings.KEPT_CACHES", 4)
    used = CacheSettings(folder=str(tmp_path))
    first = shared(used)
    for n in range(1, 20):
        shared(CacheSettings(folder=str(tmp_path), ttl=n))
        assert shared(used) is first  # the one in use stays
    assert len(_by_settings) == 4


async def test_the_command_counts_and_clears(cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = Words().use_cache(cache)
    for query in ("a", "b", "a", "A"):
        await tool.search(query)
    run: Callable[..., int] = lambda *words: main(["cache", *words, "--folder", str(cache.folder)])  # noqa: E731
    assert run("stats", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["tool"], row["entries"], row["hits"], row["saved"]) == ("Words", 2, 2, 1.0)
    assert run("stats") == 0
    assert "Words: 2 answers" in capsys.readouterr().out
    assert run("clear") == 0
    assert "2 answers forgotten" in capsys.readouterr().out
    assert not (await tool.search("a")).cached
    assert main(["cache", "stats", "--folder", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()


def test_off_is_off_also_as_yaml_reads_it() -> None:
    """`mode: off` without quotes is the truth value false."""
    assert CacheSettings.model_validate({"mode": False}).mode == "off"
