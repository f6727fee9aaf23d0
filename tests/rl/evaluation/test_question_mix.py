"""Figures for another mix of questions are what evaluating that mix would give."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation.question_mix import PAPER, weighted
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.experiments import seeds


def _record(name: str, knowledge: str, right: bool, calls: int) -> Record:
    return Record(
        task=name, family="image", knowledge=knowledge, answer="x", correct=right, stop_reason="answered", turns=2,
        malformed=0, well_formed=True, image_searches=min(1, calls), text_searches=max(0, calls - 1),
        seconds={"reason": 0.5}, price=0.0, trace=[],
    )  # fmt: skip


def _file(path: Path, records: list[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return path


def _run(free: tuple[float, int], required: tuple[float, int], tasks: tuple[int, int] = (20, 80)) -> list[Record]:
    """Accuracy and calls of the questions that need no search, and of those that do."""
    made = []
    for kind, count, (accuracy, calls) in (("known", tasks[0], free), ("unknown", tasks[1], required)):
        made += [_record(f"{kind}{n}", kind, n < accuracy * count, calls) for n in range(count)]
    return made


def test_a_weighted_mean_is_that_of_a_set_with_the_wanted_mix() -> None:
    """A fifth of the tasks is search-free; weighted to a half, they are as if there were as many of each."""
    values = {record.task: float(record.correct) for record in _run((0.9, 0), (0.4, 2))}
    labels = {task: task.rstrip("0123456789") for task in values}
    assert weighted(values, labels, 0.2)[0] == pytest.approx(sum(values.values()) / 100)
    mean, low, high = weighted(values, labels, 0.5)
    assert mean == pytest.approx(0.65)
    assert low < 0.65 < high
    assert weighted(values, labels, 1.0)[0] == pytest.approx(0.9)
    assert weighted(values, labels, 0.0)[0] == pytest.approx(0.4)


def test_resamples_keep_the_mix() -> None:
    """No resample differs if only the kind decides the value: drawn over all tasks, they would."""
    values = {f"known{n}": 0.0 for n in range(5)} | {f"unknown{n}": 2.0 for n in range(15)}
    labels = {task: task.rstrip("0123456789") for task in values}
    assert weighted(values, labels, PAPER) == (pytest.approx(1.36),) * 3


def test_a_mix_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="no search-free task"):
        weighted({"a": 1.0}, {"a": "unknown"}, 0.3)
    with pytest.raises(ValueError, match="task a has no knowledge label"):
        weighted({"a": 1.0}, {"a": ""}, 0.3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        weighted({"a": 1.0}, {"a": "known"}, 32)


def test_runs_are_compared_in_the_wanted_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The unweighted table stays as it is."""
    rag = _file(tmp_path / "rag.jsonl", _run((0.5, 2), (0.5, 2)))
    agent = _file(tmp_path / "agent.jsonl", _run((1.0, 0), (0.5, 2)))
    arguments = [str(rag), str(agent), "--json", str(tmp_path / "t.json"), "--markdown", str(tmp_path / "t.md")]
    assert main(["compare", *arguments]) == 0
    plain = json.loads((tmp_path / "t.json").read_text())
    assert main(["compare", *arguments, "--search-free", "0.5"]) == 0
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["rows"] == plain
    assert found["search_free"] == 0.5
    assert found["weighted"][1]["accuracy_difference"][0] == pytest.approx(0.25)
    assert found["weighted"][1]["searches_difference"] == [-1.0, -1.0, -1.0]
    assert found["weighted"][1]["interval"][0] < 0.75 < found["weighted"][1]["interval"][1]
    assert "Weighted: 50% of questions need no search" in (tmp_path / "t.md").read_text()
    assert main(["compare", str(rag), "--search-free", "2"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_an_experiments_tables_are_also_weighted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = {
        "limit": 100,
        "seeds": [0, 1],
        "experiments": {"rag": {"graph": "rag"}, "agent": {"train": {}}},
        "tables": {"All": ["rag", "agent"]},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    _file(tmp_path / "rag" / "0" / "rag.jsonl", _run((0.5, 2), (0.5, 2)))
    for seed, accuracy in ((0, 0.8), (1, 1.0)):  # a task counts with its mean over the seeds
        _file(tmp_path / "agent" / str(seed) / "search_agent.jsonl", _run((accuracy, 0), (0.5, 2)))
    arguments = ["table", "--plan", str(tmp_path / "plan.yaml"), "--folder", str(tmp_path)]
    assert main(["experiments", *arguments]) == 0
    plain = capsys.readouterr().out
    assert main(["experiments", *arguments, "--search-free", "--out", str(tmp_path / "out")]) == 0
    both = capsys.readouterr().out
    assert plain.strip() in both
    assert "Weighted: 32% of questions need no search" in both
    assert "| agent | 2 x 100 | 0.628 " in both
    assert "| 1.36 (1.36-1.36) | -0.640 (-0.640 to -0.640) | 68.0% |" in both
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["agent"]["weighted"]["search_free"] == PAPER
    assert figures["agent"]["weighted"]["against"]["rag"]["accuracy"][0] == pytest.approx(0.32 * 0.4)
    row = seeds.read_seeds("rag", [tmp_path / "rag" / "0" / "rag.jsonl"])
    assert row.weighted(PAPER)["accuracy"][0] == pytest.approx(0.5)
