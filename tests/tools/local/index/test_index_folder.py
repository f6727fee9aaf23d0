"""A folder is indexed once, re-indexed only where it changed, and searched like the web."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from lensgraph.graphs.program.main import main
from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.index.index_folder import default_folder, index_folder
from lensgraph.tools.local.index.index_store import IndexStore, NoIndex
from lensgraph.tools.local.world import world_index
from lensgraph.tools.registry import build
from lensgraph.tools.results import ToolFailure

CALLS: list[int] = []


class Corner(ImageEmbedder):
    """The upper left pixel; counts how many pictures it was given."""

    @property
    def dimension(self) -> int:
        return 3

    @property
    def fingerprint(self) -> str:
        return "corner"

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        CALLS.append(len(pictures))
        rows = np.array([np.asarray(p, np.float32)[0, 0] - 99.5 for p in pictures])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


EMBEDDER = f"{__name__}:Corner"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "stuff"
    (source / "sub").mkdir(parents=True)
    (source / ".hidden").mkdir()
    for name, colour in {
        "red.png": "red",
        "sub/blue_sky-2.jpg": "blue",
        "green.webp": "lime",
        ".hidden/x.png": "red",
    }.items():
        Image.new("RGB", (20, 10), colour).save(source / name, quality=95)
    (source / "sub" / "trip.md").write_text("# Trip to the sea\n\nThe hotel cost 120 dollars. ![sky](blue_sky-2.jpg)\n")
    (source / "red.txt").write_text("All about the colour red.\nRed is warm.")
    (source / "page.html").write_text("<title>Museum</title><p>It opens at nine.")
    (source / "ignored.xyz").write_text("nobody reads this")
    CALLS.clear()
    return source


def run(source: Path, out: Path) -> tuple[int, int, int, dict[str, str]]:
    report = index_folder(source, out, embedder=EMBEDDER)
    return report.added, report.kept, report.removed, report.problems


def titles(out: Path, query: str) -> list[str]:
    return [hit.title for hit in LocalEngine.open(out).search_text(query, 3)]


def test_pictures_and_documents_of_a_folder_are_found(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    assert run(folder, out) == (6, 0, 0, {})
    engine = LocalEngine.open(out)
    hit = engine.search_text("hotel cost", 3)[0]
    assert (hit.title, hit.snippet) == ("Trip to the sea", "The hotel cost 120 dollars. sky")
    assert hit.url == (folder / "sub" / "trip.md").as_uri()
    lime = engine.search_image(Image.new("RGB", (9, 9), "lime"), 1)[0]
    assert (lime.title, lime.url) == ("green", (folder / "green.webp").as_uri())
    assert lime.thumbnail is not None


def test_a_picture_leads_to_the_document_that_shows_it_or_shares_its_name(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "index")
    engine = LocalEngine.open(tmp_path / "index")
    shown = engine.search_image(Image.new("RGB", (9, 9), "blue"), 1)[0]
    assert (shown.title, shown.snippet.split("\n")[0]) == (
        "Trip to the sea",
        "Trip to the sea  The hotel cost 120 dollars. sky",
    )
    assert engine.search_image(Image.new("RGB", (9, 9), "red"), 1)[0].url == (folder / "red.txt").as_uri()


def test_a_second_run_reads_only_what_changed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    run(folder, out)
    assert sum(CALLS) == 3
    assert run(folder, out) == (0, 6, 0, {})
    (folder / "page.html").write_text("<title>Museum</title><p>It opens at noon now.")
    os.utime(folder / "page.html", ns=(1, 1))
    (folder / "new.txt").write_text("A giraffe.")
    (folder / "red.png").unlink()
    assert run(folder, out) == (2, 4, 1, {})
    assert sum(CALLS) == 3
    engine = LocalEngine.open(out)
    assert "noon" in engine.search_text("museum opens", 1)[0].snippet
    assert engine.search_text("nine", 3) == []
    assert titles(out, "giraffe") == ["new"]
    assert engine.store.count("pictures") == 2


def test_a_picture_changes_its_document_when_documents_change(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    run(folder, out)
    (folder / "sub" / "trip.md").unlink()
    run(folder, out)
    assert LocalEngine.open(out).search_image(Image.new("RGB", (9, 9), "blue"), 1)[0].title == "blue sky 2"
    (folder / "notes.md").write_text("# Notes\n![x](sub/blue_sky-2.jpg)")
    run(folder, out)
    assert LocalEngine.open(out).search_image(Image.new("RGB", (9, 9), "blue"), 1)[0].title == "Notes"


def test_unreadable_files_are_reported_skipped_and_not_read_again(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nope")
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "bad.pdf").write_bytes(b"%PDF nope")
    out = tmp_path / "index"
    added, kept, _, problems = run(folder, out)
    assert (added, kept) == (6, 0)
    assert set(problems) == {"broken.jpg", "zero.png", "text.png", "bad.pdf"}
    assert problems["zero.png"] == "zero bytes; give a picture file."
    assert run(folder, out)[3] == problems
    Image.new("RGB", (5, 5), "red").save(folder / "zero.png")
    assert set(run(folder, out)[3]) == {"broken.jpg", "text.png", "bad.pdf"}


def test_a_killed_run_is_completed_by_the_next(tmp_path: Path) -> None:
    source, out = tmp_path / "many", tmp_path / "index"
    source.mkdir()
    for n in range(100):
        (source / f"n{n:03}.txt").write_text(f"document number{n} about giraffes")
    code = (
        "import os, signal, sys; from pathlib import Path; from lensgraph.tools.local.index.index_folder import index_folder\n"
        "def die(paths):\n    for n, path in enumerate(paths):\n        if n == 50: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield path\n"
        "index_folder(Path(sys.argv[1]), Path(sys.argv[2]), progress=die)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(source), str(out)]).returncode == -signal.SIGKILL
    store = IndexStore.open(out)
    assert store.count("pages") == store.count("files") == 48
    seen: list[str] = []

    def watch(paths: Iterable[str]) -> Iterator[str]:
        for path in paths:
            seen.append(path)
            yield path

    report = index_folder(source, out, progress=watch)
    assert (report.added, report.kept, len(seen)) == (52, 48, 52)
    assert IndexStore.open(out).count("pages") == 100


def test_another_embedder_needs_a_new_index(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "index")
    with pytest.raises(NoIndex, match="was built with embedder .*Corner', not 'embedded'; remove it"):
        index_folder(folder, tmp_path / "index", embedder="embedded")


def test_two_writers_do_not_write_one_index(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with FileLock(tmp_path / "index" / "writer.lock"), pytest.raises(NoIndex, match="Another process is writing"):
        run(folder, tmp_path / "index")


def test_an_index_inside_its_own_folder_is_not_indexed(folder: Path) -> None:
    run(folder, folder / "index")
    assert run(folder, folder / "index")[:3] == (0, 6, 0)


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "private.txt")
    run(folder, tmp_path / "index")
    assert LocalEngine.open(tmp_path / "index").search_text("secret", 1) == []


async def test_a_configuration_points_the_tools_at_the_index(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "index")
    spec = {"use": "local", "index": str(tmp_path / "index")}
    texts, images = build("text_search", spec), build("image_search", spec)
    assert "Museum" in await texts.ainvoke({"query": "museum"})
    assert "Trip to the sea" in await images.ainvoke({"image": folder / "sub" / "blue_sky-2.jpg"})


def test_the_command_line_indexes_and_searches(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.png").write_text("hello")
    out = str(tmp_path / "index")
    assert main(["index", str(folder), "--out", out, "--embedder", EMBEDDER]) == 0
    printed = capsys.readouterr()
    assert "6 files indexed, 0 unchanged, 0 removed, 1 skipped" in printed.out
    assert f'{{"use": "local", "index": {json.dumps(out)}}}' in printed.out
    assert "skipped text.png: not a picture" in printed.err
    assert main(["search", out, "--text", "when does the museum open", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["title"] == "Museum"
    assert main(["search", out, "--image", str(folder / "red.png"), "-k", "1"]) == 0
    assert capsys.readouterr().out.startswith("1. red (1.00)")
    assert main(["search", out, "--text", "zebra"]) == 1
    assert main(["search", out, "--image", "/no/such.png"]) == 2
    assert main(["search", str(tmp_path / "none"), "--text", "x"]) == 2
    assert main(["index", str(tmp_path / "none")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(errors) == 4
    assert all(line.startswith(("lensgraph search: ", "lensgraph index: ")) for line in errors)


def test_the_default_place_is_in_the_home_of_the_package_and_by_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENSGRAPH_HOME", str(tmp_path))
    one, other = default_folder(tmp_path / "a" / "pictures"), default_folder(tmp_path / "b" / "pictures")
    assert one.parent == other.parent == tmp_path / "indexes"
    assert one != other
    assert one.name.startswith("pictures-")


def test_a_moved_index_still_opens(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "index")
    shutil.move(tmp_path / "index", tmp_path / "elsewhere")
    assert titles(tmp_path / "elsewhere", "museum") == ["Museum"]


FULL = [OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("database or disk is full")]


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("step", ["set_file", "finish", "set_meta"])
def test_a_disk_that_fills_is_one_line_and_leaves_no_half_index(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    error: Exception,
) -> None:
    def full(*_: object) -> None:
        raise error

    out = tmp_path / "index"
    command = ["index", str(folder), "--out", str(out), "--embedder", EMBEDDER]
    with monkeypatch.context() as broken:
        broken.setattr(IndexStore, step, full)
        assert main(command) == 2
    said = capsys.readouterr().err
    assert said.strip() == (
        f"lensgraph index: {out}: the disk is full, and no half index is left; make room, or set LENSGRAPH_HOME (for an "
        "index of your own also --out) to a folder on another disk."
    )
    assert [path.name for path in out.iterdir() if path.name.startswith("index.sqlite")] == []
    with pytest.raises(NoIndex, match="No index at"):
        IndexStore.open(out)
    assert main(command) == 0


def test_a_disk_that_fills_for_real_is_noticed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says so: its file may not grow."""
    real = IndexStore.create.__func__  # type: ignore[attr-defined]

    def small(cls: type[IndexStore], where: Path) -> IndexStore:
        store: IndexStore = real(cls, where)
        store._connection.execute("pragma max_page_count = 1")  # as many as it has
        return store

    monkeypatch.setattr(IndexStore, "create", classmethod(small))
    (folder / "long.txt").write_text("word " * 100_000)
    with pytest.raises(ToolFailure, match="the disk is full"):
        index_folder(folder, tmp_path / "index", embedder=EMBEDDER)
    assert not (tmp_path / "index" / "index.sqlite").exists()


def test_an_index_that_was_there_survives_a_full_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL[0]

    out = tmp_path / "index"
    index_folder(folder, out, embedder=EMBEDDER)
    (folder / "new.txt").write_text("Something new.")
    with monkeypatch.context() as broken:
        broken.setattr(IndexStore, "set_file", full)
        with pytest.raises(ToolFailure, match="the disk is full"):
            index_folder(folder, out, embedder=EMBEDDER)
    report = index_folder(folder, out, embedder=EMBEDDER)
    assert report.added == 1
    assert report.kept >= 4


def test_a_disk_that_fills_while_the_embedded_world_is_built_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, *, progress: bool) -> None:
        folder.mkdir()
        (folder / "index.sqlite").write_bytes(b"half")
        raise FULL[1]

    monkeypatch.setattr(world_index, "build", full)
    with pytest.raises(ToolFailure, match=r"the disk is full.*LENSGRAPH_HOME"):
        world_index.ensure(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["world.lock"]
