"""JSON lines that survive a kill: whole lines are kept, a line that was cut off is forgotten.

Invariant: after `rows`, the file ends with a newline, so that the next `append` starts a line of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rows(path: Path) -> list[dict[str, Any]]:
    """Every whole line; nothing if there is no file. What a kill left of the last line is removed from the file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
