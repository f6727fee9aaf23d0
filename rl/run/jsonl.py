"""JSON lines that survive a kill: complete lines are kept, a line that was cut off is dropped.

Invariant: after `rows`, the file ends with a newline, so that the next `append` starts a line of its own.
`peek` never writes, so it may read a file that another process is writing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(path: Path) -> list[dict[str, Any]]:
    """Read every complete line, and remove an incomplete last line from the file; empty if there is no file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def peek(path: Path) -> Iterator[dict[str, Any]]:
    """Read every complete line, one at a time, without changing the file; empty if there is no file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def line(row: dict[str, Any]) -> str:
    """The row as one line of UTF-8 text; half of a surrogate pair, which UTF-8 cannot encode, is written as
    its escape."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def append(path: Path, row: dict[str, Any], *, durable: bool = False) -> None:
    """Add one line; if `durable`, it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as out:
        out.write(line(row))
        if durable:
            out.flush()
            os.fsync(out.fileno())
