"""JSON lines keep what is whole, through a full disk and a damaged line."""

import json
from pathlib import Path
from typing import Any

import pytest

from lensgraph.rl.run import jsonl


def test_a_disk_that_fills_leaves_whole_lines_only(small_disk: Path, fill: Any) -> None:
    """A row that follows it, when there is room again, begins on a line of its own."""
    path = small_disk / "rows.jsonl"
    jsonl.append(path, {"n": 1})
    filler = fill(small_disk)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 4096)
    with pytest.raises(OSError, match="No space left"):
        jsonl.append(path, {"n": 2, "text": "x" * 10_000})
    assert list(jsonl.peek(path)) == [{"n": 1}]
    assert path.stat().st_size == len(b'{"n": 1}\n')
    filler.unlink()
    jsonl.append(path, {"n": 3})
    assert jsonl.rows(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"[1, 2]", b'{"n": ', b"[" * 100_000, b"null"])
def test_a_damaged_line_is_named_with_its_file_and_nothing_is_changed(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    body = b'{"n": 1}\n' + damage + b'\n{"n": 2}\nhalf'
    path.write_bytes(body)
    for read in (jsonl.rows, lambda path: list(jsonl.peek(path))):
        with pytest.raises(jsonl.DamagedLineError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: line 2 is damaged; delete that line, or name another file"
    assert path.read_bytes() == body


def test_a_row_with_half_a_character_comes_back(tmp_path: Path) -> None:
    row: dict[str, Any] = {"text": "\ud83d and \u00e4"}
    jsonl.append(tmp_path / "rows.jsonl", row, durable=True)
    (line,) = jsonl.rows(tmp_path / "rows.jsonl")
    assert json.dumps(line["text"]) == json.dumps(row["text"]) or "\\ud83d" in line["text"]
