"""Disks that fill, folders that vanish, files that are damaged and clocks that go back, met by the graph in a program.

Each is one line and leaves the thread as it was, or is healed. No search is paid for twice.
"""

import asyncio
import contextlib
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import id as checkpoint_ids
from PIL import Image

from lensgraph.agent import testing, usage
from lensgraph.agent.errors import BadInput, StorageError, UserError
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes import once
from lensgraph.agent.savers import saver
from lensgraph.graphs import search_agent

pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")

TURNS = ["<img_search>the white tower</img_search>", "<text_search>kestrel</text_search>", "<answer>1987</answer>"]
FILLER = "filler"
"""Name of the file that fills a small disk."""
Fill = Callable[[Path], Path]


class Paid:
    """Counts its calls, and lets something go wrong during one of them."""

    def __init__(self, wrong: Callable[[str], Any] = lambda kind: None) -> None:
        self.sent: list[str] = []
        self.wrong = wrong

    def tools(self) -> dict[str, Any]:
        def paid(kind: str, base: Any) -> Any:
            asked = self

            class Counted(base):  # type: ignore[misc]
                price_per_call: float = 0.01

                async def asearch(self, what: Any) -> Any:
                    asked.sent.append(kind)
                    asked.wrong(kind)
                    await asyncio.sleep(0.01)
                    return await super().asearch(what)

            return Counted()

        return {
            "text_search": paid("text", testing.FixedText),
            "image_search": paid("image", testing.FixedImage),
        }


def question() -> dict[str, Any]:
    return {"question": "When was it automated?", "images": [Image.effect_noise((300, 300), 90).convert("RGB")]}


def turns(messages: Any) -> str:
    if "called" in messages[0].text:
        return "<answer>Kestrel Point</answer>"
    return TURNS[sum(message.type == "ai" for message in messages)]


async def run(given: Any, pictures: Path, threads: Path, paid: Paid, thread: str = "1") -> dict[str, Any]:
    """One process's part of a thread: a store and a saver of its own."""
    context = testing.context(turns, store=ImageStore(pictures), **paid.tools())
    config: Any = {"configurable": {"thread_id": thread}}
    async with saver(f"sqlite:///{threads}") as checkpoints:
        return await search_agent.build(checkpoints).ainvoke(given, config, context=context)


def one_line(error: Exception, *named: str) -> None:
    assert "\n" not in str(error)
    for name in named:
        assert name in str(error)


# --- images.folder


def _a_file(pictures: Path) -> None:
    pictures.touch()


def _records_are_a_file(pictures: Path) -> None:
    pictures.mkdir()
    (pictures / once.FOLDER).touch()


def _a_link_to_nowhere(pictures: Path) -> None:
    pictures.symlink_to(pictures.parent / "gone" / "further")


@pytest.mark.parametrize("broken", [_a_file, _records_are_a_file, _a_link_to_nowhere])
async def test_a_folder_that_cannot_be_used_is_one_line_and_sends_no_search(tmp_path: Path, broken: Any) -> None:
    pictures, paid = tmp_path / "pictures", Paid()
    broken(pictures)
    with pytest.raises(StorageError) as caught:
        await run(question(), pictures, tmp_path / "threads.db", paid)
    one_line(caught.value, str(pictures), "images.folder")
    assert paid.sent == []
    pictures.unlink() if not pictures.is_dir() else shutil.rmtree(pictures)
    result = await run(question(), pictures, tmp_path / "threads.db", paid)
    assert (result["answer"], paid.sent) == ("1987", ["image", "text"])


@pytest.mark.parametrize("during", ["image", "text"])
async def test_a_folder_that_vanishes_comes_back_with_its_pictures_and_records(tmp_path: Path, during: str) -> None:
    pictures = tmp_path / "pictures"
    paid = Paid(lambda kind: shutil.rmtree(pictures) if kind == during else None)
    assert (await run(question(), pictures, tmp_path / "threads.db", paid))["answer"] == "1987"
    assert list((pictures / once.FOLDER).glob("*.json"))
    if during == "image":  # the later search puts the picture back
        follow_up = await run({"question": "What is it called?"}, pictures, tmp_path / "threads.db", Paid())
        assert follow_up["answer"] == "Kestrel Point"


async def test_a_folder_that_was_lost_between_two_processes_pays_for_nothing_again(tmp_path: Path) -> None:
    """The records went with the pictures: a search that may have been sent is not sent."""
    pictures, threads, paid = tmp_path / "pictures", tmp_path / "threads.db", Paid()
    killed: Any = asyncio.create_task(
        run(question(), pictures, threads, Paid(lambda kind: kind == "text" and killed.cancel()))
    )
    with pytest.raises(asyncio.CancelledError):
        await killed
    shutil.rmtree(pictures)
    with pytest.raises(BadInput) as caught:
        await run(None, pictures, threads, paid)
    one_line(caught.value, "not in the image store any more")
    assert paid.sent == []


@pytest.mark.parametrize("damage", [b"", b"half", b"\xff" * 1000])
async def test_a_damaged_picture_is_never_shown_and_heals_when_it_is_sent_again(tmp_path: Path, damage: bytes) -> None:
    store = ImageStore(tmp_path)
    image = Image.effect_noise((30, 20), 90).convert("RGB")
    identity = store.add_image(image)["id"]
    whole = (tmp_path / identity).read_bytes()
    for bad in (damage, whole[: len(whole) // 2], bytes(len(whole))):
        (tmp_path / identity).write_bytes(bad)
        with pytest.raises(BadInput, match="send it again"):
            ImageStore(tmp_path).bytes(identity)
        ImageStore(tmp_path).add_image(image)
        assert ImageStore(tmp_path).bytes(identity) == whole


async def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    small_disk: Path, tmp_path: Path, fill: Fill
) -> None:
    fill(small_disk)
    paid = Paid()
    with pytest.raises(StorageError) as caught:
        await run(question(), small_disk, tmp_path / "threads.db", paid)
    one_line(caught.value, str(small_disk), "No space left")
    assert [path.name for path in small_disk.iterdir()] == [FILLER]
    (small_disk / FILLER).unlink()
    assert (await run(question(), small_disk, tmp_path / "threads.db", paid))["answer"] == "1987"


@pytest.mark.parametrize("during", ["image", "text"])
async def test_a_disk_that_fills_during_a_search_sends_none_that_it_cannot_record(
    small_disk: Path, tmp_path: Path, during: str, fill: Fill
) -> None:
    """The search that was made is told to the policy. The next one cannot be announced: the thread waits for room."""
    (small_disk / "pictures").mkdir()
    paid = Paid(lambda kind: fill(small_disk) if kind == during and not (small_disk / FILLER).exists() else None)
    where = small_disk / "pictures", tmp_path / "threads.db"
    given: Any = question()
    for _ in range(2):
        try:
            result = await run(given, *where, paid)
            break
        except StorageError as error:
            one_line(error, "No space left")
            (small_disk / FILLER).unlink()
            given = None
    assert (result["answer"], paid.sent) == ("1987", ["image", "text"])


# --- the threads


async def test_threads_on_a_full_disk_go_on_when_there_is_room(small_disk: Path, tmp_path: Path, fill: Fill) -> None:
    paid = Paid(lambda kind: fill(small_disk) if kind == "text" and not (small_disk / FILLER).exists() else None)
    where = tmp_path / "pictures", small_disk / "threads.db"
    with pytest.raises(StorageError) as caught:
        await run(question(), *where, paid)
    one_line(caught.value, str(small_disk), "full", "go on with the thread")
    (small_disk / FILLER).unlink()
    result = await run(None, *where, paid)
    assert (result["answer"], paid.sent) == ("1987", ["image", "text"])


def _rows(threads: Path) -> None:
    with contextlib.closing(sqlite3.connect(threads)) as database, database:
        database.execute("update checkpoints set checkpoint = x'ff00ff00'")


def _cut(threads: Path) -> None:
    threads.write_bytes(threads.read_bytes()[: threads.stat().st_size // 2])


def _overwritten(threads: Path) -> None:
    threads.write_bytes(random.Random(0).randbytes(threads.stat().st_size))


@pytest.mark.parametrize("damage", [_rows, _cut, _overwritten])
async def test_damaged_threads_are_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    where = tmp_path / "pictures", tmp_path / "threads.db"
    await run(question(), *where, Paid())
    damage(where[1])
    with pytest.raises(UserError) as caught:
        await run({"question": "What is it called?"}, *where, Paid())
    one_line(caught.value, str(where[1]))


async def test_beside_a_damaged_thread_another_one_works(tmp_path: Path) -> None:
    where = tmp_path / "pictures", tmp_path / "threads.db"
    await run(question(), *where, Paid())
    _rows(where[1])
    assert (await run(question(), *where, Paid(), thread="2"))["answer"] == "1987"


# --- clocks


async def test_a_thread_goes_on_from_its_last_question_when_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangGraph's checkpoints are sorted by their time, so a later question would be forgotten."""
    where, real = (tmp_path / "pictures", tmp_path / "threads.db"), time.time_ns
    counts = []
    for number, ahead in enumerate((3600, 0, 0)):
        monkeypatch.setattr(checkpoint_ids, "_last_v6_timestamp", None)  # another process
        monkeypatch.setattr(time, "time_ns", lambda ahead=ahead: real() + ahead * 10**9)
        given = question() if number == 0 else {"question": f"What is it called? {number}"}
        counts.append(len((await run(given, *where, Paid()))["messages"]))
    assert counts == [2, 4, 6]


def test_the_time_of_a_question_counts_on_when_the_clock_is_set_back() -> None:
    """The seconds waited for the policy and the tools are there, whatever the clock says."""
    steps: Any = [
        {"node": "reason", "turn": 1, "seconds": 4.0, "action": {"kind": "text_search"}},
        {"node": "text_search", "turn": 1, "seconds": 3.0},
    ]
    assert usage.spent(steps, time.time() + 3600, (0, 0)).seconds == 7.0
    assert usage.spent(steps, time.time() - 60, (0, 0)).seconds == pytest.approx(60, abs=5)
