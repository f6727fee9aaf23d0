"""Files of this machine that somebody names: regular files only, under a cap, in bounded time, inside the open folder."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensgraph.tools import guard
from lensgraph.tools.guard import Refused, read_file, read_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An open folder with a file, beside a secret one."""
    (tmp_path / "open" / "deep").mkdir(parents=True)
    (tmp_path / "open" / "deep" / "a.txt").write_bytes(b"inside")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_bytes(b"hidden words")
    return tmp_path / "open"


def refusal(source: str | Path, below: Path | None = None) -> str:
    """The refusal, which comes at once and repeats nothing but the path."""
    started = time.monotonic()
    with pytest.raises(Refused) as caught:
        read_file(source, below)
    assert time.monotonic() - started < 2
    assert "\n" not in str(caught.value) and "hidden" not in str(caught.value)
    return str(caught.value)


def test_a_regular_file_is_read_whole(folder: Path) -> None:
    assert read_file(folder / "deep" / "a.txt") == b"inside"
    assert read_file("deep/a.txt", folder) == read_file(str(folder / "deep" / "a.txt"), folder) == b"inside"


@pytest.mark.parametrize("confined", [True, False])
def test_a_pipe_that_nobody_writes_to_is_refused_at_once(folder: Path, confined: bool) -> None:
    os.mkfifo(folder / "pipe.png")
    assert "not a file" in refusal(folder / "pipe.png", folder if confined else None)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty", "/dev/stdin"])
def test_a_device_is_refused_and_not_opened(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists(device) or os.path.isfile(device):
        pytest.skip("no such device here")
    monkeypatch.setattr(os, "open", lambda *given, **named: pytest.fail("opened"))
    assert "not a file" in refusal(device)


def test_a_device_by_a_link_in_the_folder_is_outside(folder: Path) -> None:
    (folder / "zero.png").symlink_to("/dev/zero")
    assert "outside the folder" in refusal("zero.png", folder)


@pytest.mark.parametrize("confined", [True, False])
def test_a_socket_and_a_folder_are_refused(folder: Path, confined: bool) -> None:
    below = folder if confined else None
    assert "not a file" in refusal(folder, below)
    assert "not a file" in refusal(folder / "deep", below)


@pytest.mark.parametrize("confined", [True, False])
def test_a_huge_sparse_file_is_refused_before_it_is_read(
    folder: Path, confined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(os, "read", lambda *given: pytest.fail("read"))
    assert "larger than the cap" in refusal(folder / "huge.png", folder if confined else None)


@pytest.fixture
def growing(folder: Path) -> Iterator[Path]:
    """A file to which another thread writes without end."""
    path, stop = folder / "log.png", threading.Event()
    path.write_bytes(b"x")

    def write() -> None:
        with path.open("ab") as file:
            while not stop.is_set() and file.tell() < 64 * 1024 * 1024:
                file.write(b"x" * 65536)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    yield path
    stop.set()
    writer.join()


def test_a_file_that_grows_while_it_is_read_ends_at_the_cap(growing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes the look at its size, which is taken when it is small."""
    monkeypatch.setattr(read_files, "MAX_FILE_BYTES", 8 * 1024 * 1024)
    monkeypatch.setattr(read_files, "_check_regular", lambda *given: None)
    deadline = time.monotonic() + 10
    while growing.stat().st_size < 9 * 1024 * 1024 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "larger than the cap" in refusal(growing)


def test_a_file_that_is_read_too_slowly_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_files, "READ_SECONDS", 0.3)
    monkeypatch.setattr(os, "read", lambda *given: time.sleep(0.05) or b"x")
    assert "not read within 0.3 seconds" in refusal(folder / "deep" / "a.txt")


@pytest.mark.parametrize(
    "name",
    ["../secret/a.txt", "deep/../../secret/a.txt", "link.txt", "away/a.txt", "{folder}/../secret/a.txt", "/etc/passwd",
     "/proc/self/environ"],
)  # fmt: skip
def test_nothing_outside_the_folder_is_read(folder: Path, name: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret" / "a.txt")
    (folder / "away").symlink_to(folder.parent / "secret")
    assert "outside the folder" in refusal(name.format(folder=folder), folder)


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "link.txt").symlink_to("deep/a.txt")
    (folder / "way").symlink_to("deep")
    assert read_file("link.txt", folder) == read_file("way/a.txt", folder) == b"inside"


@pytest.mark.parametrize("exchanged", ["deep", "deep/a.txt"])
def test_a_link_put_in_place_after_the_check_is_not_followed(
    folder: Path, exchanged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is checked, then somebody exchanges a part of it for a link that leads out."""
    checked = Path.is_relative_to

    def exchange(path: Path, other: Path) -> bool:
        inside = checked(path, other)
        (folder / exchanged).rename(folder / "before")
        (folder / exchanged).symlink_to(folder.parent / "secret" / ("a.txt" if "/" in exchanged else ""))
        return inside

    monkeypatch.setattr(Path, "is_relative_to", exchange)
    message = refusal("deep/a.txt", folder)
    assert "cannot be read" in message or "not a file" in message


def test_an_exchange_between_look_and_opening_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is put where a regular file was looked at."""
    opened = os.open

    def exchange(path: str | Path, flags: int, **named: int) -> int:
        if str(path).endswith("a.txt"):
            (folder / "deep" / "a.txt").unlink()
            os.mkfifo(folder / "deep" / "a.txt")
        return opened(path, flags, **named)

    monkeypatch.setattr(os, "open", exchange)
    assert "not a file" in refusal("deep/a.txt", folder)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "loop", "~nobody-of-this-name/a"])
@pytest.mark.parametrize("confined", [True, False])
def test_a_path_that_cannot_be_used_is_one_line(folder: Path, name: str, confined: bool) -> None:
    (folder / "loop").symlink_to("loop")
    assert refusal(name if name != "loop" else str(folder / "loop"), folder if confined else None)


def test_the_caps_are_those_of_the_guard() -> None:
    assert guard.MAX_FILE_BYTES == read_files.MAX_FILE_BYTES == 64 * 1024 * 1024
