"""Disks that fill, folders that vanish and files that are damaged, met on the command line: healed, or one line and exit 2.

A cache that cannot be used costs no search, and it is said that what it held is paid for again.
"""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lensgraph.agent import shared
from lensgraph.graphs.bench import siblings
from lensgraph.graphs.program.main import main
from lensgraph.tools.cache import by_settings
from lensgraph.tools.local.world import world_index

Damage = Callable[[Path], None]


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def random_bytes(file: Path) -> None:
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def random_inside(file: Path) -> None:
    """The header is whole, so the file opens."""
    body = bytearray(file.read_bytes())
    body[4096:] = random.Random(0).randbytes(len(body) - 4096)
    file.write_bytes(body)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "inside").touch()


DAMAGE = [emptied, cut, random_bytes, random_inside, a_folder]


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_noise((64, 48), 90).convert("RGB").save(path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must be refused; returns the one line."""
    assert main(argv) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert said.out == ""
    return lines[0]


# --- the index of the embedded web


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own with the index of the embedded web; building it anew takes a copy of that."""
    whole = world_index.ensure(progress=False)
    monkeypatch.setenv("LENSGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(world_index, "build", lambda folder, **_: shutil.copytree(whole, folder))
    shared._built.clear()
    return world_index.ensure() / "index.sqlite"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_of_the_embedded_web_is_built_anew(
    world: Path, png: Path, settings: Path, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    whole = world.read_bytes()
    damage(world)
    script = 'policy.options={"turns": ["<text_search>kenya national anthem</text_search>", "<answer>a</answer>"]}'
    given = ["--config", str(settings), script, 'tools.text_search={"use": "local"}', "--json"]
    assert main(["ask", str(png), "?", *given]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert any("Kenya" in source["title"] for source in json.loads(said.out)["sources"])
    assert world.read_bytes() == whole


def test_an_index_that_is_damaged_while_it_is_used_is_built_anew(world: Path) -> None:
    from lensgraph.tools.base import wait_for
    from lensgraph.tools.registry import build

    tool: Any = build("text_search", {"use": "local"})
    tool.prepare()
    whole = world.read_bytes()
    random_inside(world)
    assert wait_for(tool.search("kenya national anthem")).hits
    assert world.read_bytes() == whole
    shutil.rmtree(world.parent)
    assert wait_for(tool.search("capital of kenya")).hits


# --- an index of one's own


@pytest.fixture
def index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(40):
        (docs / f"{number}.txt").write_text(f"Lighthouse number {number}.\n" + f"word{number} " * 200)
    Image.new("RGB", (20, 10), "red").save(docs / "red.png")
    assert main(["index", str(docs), "--out", str(tmp_path / "idx")]) == 0
    capsys.readouterr()
    return tmp_path / "idx" / "index.sqlite"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_of_ones_own_is_one_line(
    index: Path, png: Path, settings: Path, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    damage(index)
    folder = str(index.parent)
    for search in (["--text", "word7"], ["--image", str(png)]):
        assert folder in refused(capsys, "search", folder, *search)
    assert folder in refused(capsys, "index", str(index.parent.parent / "docs"), "--out", folder)


def test_vectors_of_another_length_are_one_line(index: Path, png: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(index) as database:
        database.execute("update pictures set vector = x'00'")
    database.close()
    assert "damaged" in refused(capsys, "search", str(index.parent), "--image", str(png))


def test_a_folder_that_cannot_be_listed_forgets_nothing(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are not gone: the disk that they lie on may be back tomorrow."""
    docs = index.parent.parent / "docs"
    (docs / "below").mkdir()
    (docs / "below" / "deep.txt").write_text("an anchor")
    assert main(["index", str(docs), "--out", str(index.parent)]) == 0
    real, away = os.scandir, docs / "below"

    def scandir(path: Any) -> Any:
        if Path(path) == away:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    capsys.readouterr()
    assert main(["index", str(docs), "--out", str(index.parent)]) == 0
    said = capsys.readouterr()
    assert "skipped below: the folder cannot be listed (Permission denied); what it held stays indexed" in said.err
    assert "0 removed" in said.out
    away = docs
    assert "nothing was changed" in refused(capsys, "index", str(docs), "--out", str(index.parent))
    assert main(["search", str(index.parent), "--text", "anchor"]) == 0


def test_an_index_on_a_full_disk_is_one_line(index: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = index.parent.parent / "docs"
    chance = random.Random(0)
    for number in range(40):
        (docs / f"long {number}.txt").write_text(" ".join(f"{chance.getrandbits(40):x}" for _ in range(5000)))
    line = refused(capsys, "index", str(docs), "--out", str(small_disk / "idx"))
    assert "the disk is full, and no half index is left" in line
    assert "No index at" in refused(capsys, "search", str(small_disk / "idx"), "--text", "word7")


# --- the cache


@pytest.fixture
def searching(tmp_path: Path, settings: Path) -> Any:
    """A configuration whose text search is a service on this machine that is paid for, with a cache; and the service."""
    with siblings.serving() as service:
        chosen = yaml.safe_load(settings.read_text())
        chosen["policy"]["options"]["turns"] = ["<text_search>code of number 7</text_search>", "<answer>a</answer>"]
        address = f"http://127.0.0.1:{service.server_address[1]}"
        chosen["tools"]["text_search"] = {"use": "searxng", "base_url": address, "price_per_call": 0.005}
        chosen["tools"]["cache"] = {"folder": str(tmp_path / "cache")}
        settings.write_text(yaml.safe_dump(chosen))
        yield settings, service


def ask(png: Path, settings: Path) -> int:
    """`lensgraph ask` as a process of its own, which closes its cache at the end."""
    code = main(["ask", str(png), "?", "--config", str(settings), "--json"])
    for cache in by_settings._by_settings.values():
        cache.store.close()
    by_settings._by_settings.clear()
    shared._built.clear()
    return code


@pytest.mark.parametrize("damage", [cut, random_bytes, random_inside, a_folder])
def test_a_damaged_cache_costs_no_search_and_says_that_it_pays_again(
    tmp_path: Path, png: Path, searching: Any, caplog: Any, capsys: Any, damage: Damage
) -> None:
    settings, service = searching
    for _ in range(2):
        assert ask(png, settings) == 0
    assert (len(service.asked), caplog.text) == (1, "")
    file = tmp_path / "cache" / "tools.v1.sqlite"
    damage(file)
    assert ask(png, settings) == 0
    assert len(service.asked) == 2
    (said,) = [record.getMessage() for record in caplog.records if "tools.cache" in record.getMessage()]
    assert str(file) in said and "paid for again" in said and "\n" not in said
    capsys.readouterr()
    line = refused(capsys, "cache", "stats", "--folder", str(file.parent))
    assert str(file) in line and "lensgraph cache clear" in line
    if damage is not a_folder:
        assert main(["cache", "clear", "--folder", str(file.parent)]) == 0
        ask(png, settings)
        ask(png, settings)
        assert len(service.asked) == 3, "it keeps answers again"


def test_an_empty_file_is_an_empty_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tools.v1.sqlite").touch()
    for command in ("stats", "clear"):
        assert main(["cache", command, "--folder", str(tmp_path)]) == 0
        assert capsys.readouterr().out.startswith("0 answers")


def test_a_full_disk_costs_the_cache_and_no_search(
    small_disk: Path, fill: Any, png: Path, searching: Any, caplog: Any
) -> None:
    settings, service = searching
    chosen = yaml.safe_load(settings.read_text())
    chosen["tools"]["cache"]["folder"] = str(small_disk / "cache")
    settings.write_text(yaml.safe_dump(chosen))
    fill(small_disk)
    assert ask(png, settings) == 0
    assert len(service.asked) == 1
    assert "cannot be used" in caplog.text and "make room" in caplog.text


# --- the pictures


def test_a_folder_of_pictures_that_cannot_be_used_is_one_line(
    png: Path, settings: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        line = refused(capsys, "ask", str(png), "?", "--config", str(settings), f"images.folder={tmp_path / folder}")
        assert str(tmp_path / folder) in line and "images.folder" in line


def test_pictures_on_a_full_disk_are_one_line(
    small_disk: Path, settings: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    noise = tmp_path / "noise.png"
    Image.effect_noise((1500, 1500), 90).convert("RGB").save(noise)
    line = refused(capsys, "ask", str(noise), "?", "--config", str(settings), f"images.folder={small_disk}")
    assert "No space left on device" in line
    assert list(small_disk.iterdir()) == []
