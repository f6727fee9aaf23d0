"""Read a file of this machine that somebody named: regular files only, under a cap, in bounded time.

Invariants: a pipe, a device, a socket or a folder is never opened to be read; below an open folder no link is followed once
the path was checked, so a path that is exchanged in between is refused; an error repeats the path as it was given and says
nothing of the content.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lensgraph.tools.guard.addresses import Refused

T = TypeVar("T")
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Largest file read from disk."""
READ_SECONDS = 10.0
"""Longest time to read a file: 64 MiB from a slow disk take about one second."""
CHUNK_BYTES = 1024 * 1024
"""Bytes read between two looks at the clock and the cap."""
LONGEST_PATH = 4096
"""Characters of a path, as Linux limits it."""
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # waits for no writer of a pipe
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def read_file(source: str | Path, below: str | Path | None = None) -> bytes:
    """The content of a regular file. Blocks: call it from a thread.

    `below` is the only folder that may be read; a relative path is then relative to it, and links inside it that stay
    inside are followed. Without it any file may be read.

    Raises:
        Refused: the path leads out of the folder, is no regular file, or cannot be read within the caps.
    """
    text = str(source)
    if "\x00" in text or len(text) > LONGEST_PATH:
        raise Refused(f"{text[:40]!r}... is neither a path, a data URI nor an address of a picture.")
    try:
        descriptor = _open(text) if below is None else _open_below(text, Path(below).expanduser().resolve())
        try:
            return _content(descriptor, text)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise Refused(f"{text}: no such file; check the path.") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: an unknown ~user, or a circle of links before Python 3.13
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise Refused(f"{text[:200]}: cannot be read ({reason}); check the path and its permissions.") from error


async def in_time(read: Callable[[], T]) -> T:
    """`read()` in a thread, left alone when it takes too long: a network folder may never answer.

    Raises:
        Refused: it took longer than `READ_SECONDS` and a second.
    """
    try:
        async with asyncio.timeout(READ_SECONDS + 1):
            return await asyncio.to_thread(read)
    except TimeoutError as error:
        raise Refused(f"a file was not read within {READ_SECONDS:g} seconds; copy it to a faster disk.") from error


def _open(text: str) -> int:
    path = Path(text).expanduser()
    _check_regular(os.stat(path), text)  # before opening: to open a device may set it going
    return os.open(path, _READ)


def _open_below(text: str, folder: Path) -> int:
    """Open the file step by step from the folder's own descriptor, following no link."""
    inside = (folder / text).resolve()
    if not inside.is_relative_to(folder):
        raise Refused(
            f"{text[:120]}: outside the folder that may be read here (images.local_files); send the picture itself.",
            "refused",
        )
    *folders, name = inside.relative_to(folder).parts or (".",)
    parent = os.open(folder, _FOLDER)
    try:
        for part in folders:
            child = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
            os.close(parent)
            parent = child
        _check_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), text)
        return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        os.close(parent)


def _check_regular(found: os.stat_result, text: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{text}: not a file; give the path of one picture.")
    if found.st_size > MAX_FILE_BYTES:
        raise Refused(f"{text}: larger than the cap of {MAX_FILE_BYTES:,} bytes; give a smaller file.")


def _content(descriptor: int, text: str) -> bytes:
    """All bytes of an open file, which may grow while it is read."""
    _check_regular(os.fstat(descriptor), text)  # what was opened may not be what was looked at before
    until = time.monotonic() + READ_SECONDS
    parts: list[bytes] = []
    held = 0
    while part := os.read(descriptor, CHUNK_BYTES):
        parts.append(part)
        held += len(part)
        if held > MAX_FILE_BYTES:
            raise Refused(f"{text}: larger than the cap of {MAX_FILE_BYTES:,} bytes; give a smaller file.")
        if time.monotonic() > until:
            raise Refused(f"{text}: not read within {READ_SECONDS:g} seconds; copy it to a faster disk.")
    return b"".join(parts)
