"""Runs are compared task by task."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation.comparison import compare as compared
from lensgraph.rl.evaluation.record import Record


def _record(task: str, right: bool, calls: int) -> Record:
    return Record(
        task=task, family="image", knowledge="unknown", answer="x", correct=right, stop_reason="answered", turns=2,
        malformed=0, well_formed=True, image_searches=min(1, calls), text_searches=max(0, calls - 1),
        seconds={"reason": 0.5}, price=0.0, trace=[],
    )  # fmt: skip


def _file(path: Path, records: list[Record]) -> str:
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return str(path)


def test_a_paired_interval_is_narrower_than_that_of_either_run(tmp_path: Path) -> None:
    """Half of the tasks are hard for both; the second run is right on one more in ten, always on easier ones."""
    first = [_record(f"t{n}", n % 2 == 0, 2) for n in range(100)]
    second = [_record(f"t{n}", n % 2 == 0 or n % 10 == 1, 1) for n in range(100)]
    rows = compared({"a": {r.task: r for r in first}, "b": {r.task: r for r in second}})
    mean, low, high = rows[1]["accuracy_difference"]
    assert mean == pytest.approx(0.1)
    assert low > 0
    assert high - low < rows[1]["interval"][1] - rows[1]["interval"][0]
    assert rows[1]["searches_difference"] == (-1.0, -1.0, -1.0)
    assert rows[0]["accuracy_difference"] == (0.0, 0.0, 0.0)


def test_only_common_tasks_count(tmp_path: Path) -> None:
    rows = compared(
        {"a": {t: _record(t, True, 1) for t in ("x", "y")}, "b": {t: _record(t, False, 1) for t in ("y", "z")}}
    )
    assert [row["tasks"] for row in rows] == [1, 1]
    with pytest.raises(ValueError, match="no task in common"):
        compared({"a": {"x": _record("x", True, 1)}, "b": {"y": _record("y", True, 1)}})


def test_the_command_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = _file(tmp_path / "a.jsonl", [_record(f"t{n}", n % 2 == 0, 2) for n in range(20)])
    b = _file(tmp_path / "b.jsonl", [_record(f"t{n}", True, 0) for n in range(20)])
    out = {name: tmp_path / name for name in ("t.json", "t.md", "t.png")}
    arguments = ["--json", str(out["t.json"]), "--markdown", str(out["t.md"]), "--plot", str(out["t.png"])]
    assert main(["compare", f"rag={a}", b, *arguments]) == 0
    assert "rag" in capsys.readouterr().out
    assert [row["run"] for row in json.loads(out["t.json"].read_text())] == ["rag", "b"]
    assert "| b | 20 | 1.000 (1.000-1.000) | +0.500" in out["t.md"].read_text()
    assert out["t.png"].stat().st_size > 1000


def test_a_missing_file_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "nothing.jsonl")]) == 2
    assert "python -m lensgraph.rl evaluate --records" in capsys.readouterr().err
    a = _file(tmp_path / "a.jsonl", [_record("t", True, 0)])
    assert main(["compare", a, f"a={a}"]) == 2
    assert "two runs are called a" in capsys.readouterr().err
    (tmp_path / "b.jsonl").write_text('{"task": "t", "other": 1}\n')
    assert main(["compare", str(tmp_path / "b.jsonl")]) == 2
    assert "not records" in capsys.readouterr().err
