"""JSON lines that survive a kill and a full disk: complete lines are kept, a line that was cut off is dropped.

Invariants: after `rows`, the file ends with a newline, so that the next `append` starts a line of its own; an `append`
that fails leaves the file as it was. `peek` never writes, so it may read a file that another process is writing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensgraph.agent.errors import UserError


class DamagedLineError(UserError):
    """A line holds no record. The message is one line: the file, the line and the fix."""


def rows(path: Path) -> list[dict[str, Any]]:
    """Read every complete line, and remove an incomplete last line from the file; empty if there is no file.

    Raises:
        DamagedLineError: a line is no JSON object.
    """
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    found = [_row(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return found


def peek(path: Path) -> Iterator[dict[str, Any]]:
    """Read every complete line, one at a time, without changing the file; empty if there is no file.

    Raises:
        DamagedLineError: a line is no JSON object.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DamagedLineError(f"{path}: line {number} is damaged; delete that line, or name another file")
    return row


def line(row: dict[str, Any]) -> str:
    """The row as one line of UTF-8 text; half of a surrogate pair, which UTF-8 cannot encode, is written as
    its escape."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def append(path: Path, row: dict[str, Any], *, durable: bool = False) -> None:
    """Add one line; if `durable`, it is on the disk when this returns."""
    data = line(row).encode()
    with path.open("ab", buffering=0) as out:
        before = out.tell()
        try:
            if out.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if durable:
                os.fsync(out.fileno())
        except OSError:
            out.truncate(before)
            raise
