"""Compare evaluations task by task: the calculation, its table and its plot. The command is in `compare.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.metrics import DIFFERENCES, METRICS, VALUES, Spread, interval_key
from lensgraph.rl.evaluation.plots import draw_points
from lensgraph.rl.evaluation.question_mix import weighted
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.evaluation.tables import as_markdown, cell, difference_cell, heading
from lensgraph.tools.runtime.interval import interval

HEAD = ("run", "tasks", *(head for name in DIFFERENCES for head in (heading(name), "against the first")),
        *(heading(name) for name in VALUES))  # fmt: skip


def compare(runs: Mapping[str, Mapping[str, Record]], share: float | None = None) -> list[dict[str, Any]]:
    """One row a run, on the tasks that all runs hold; differences are to the first run.

    With a `share`, means and differences are weighted so that this share of the questions needs no search
    (`lensgraph.rl.evaluation.question_mix`). Averages over turns are never weighted.

    Raises:
        ValueError: the runs have no task in common, or cannot be weighted.
    """
    common = sorted(set.intersection(*(set(records) for records in runs.values())))
    if not common:
        raise UserError("the runs have no task in common; evaluate them on the same set")
    base = next(iter(runs.values()))
    labels = {task: base[task].knowledge for task in common}
    rows: list[dict[str, Any]] = []
    for run, records in runs.items():
        row: dict[str, Any] = {"run": run, "tasks": len(common)}
        for name in DIFFERENCES:
            of = METRICS[name].of
            here, there = ([of(some[task]) for task in common] for some in (records, base))
            if share is None:
                row[name], row[interval_key(name)] = sum(here) / len(here), interval(here)
                row[f"{name}_difference"] = paired(there, here)
            else:
                row[name], *ends = weighted(dict(zip(common, here, strict=True)), labels, share)
                row[interval_key(name)] = tuple(ends)
                more = [b - a for a, b in zip(there, here, strict=True)]
                row[f"{name}_difference"] = weighted(dict(zip(common, more, strict=True)), labels, share)
        for name in VALUES:
            row[name] = METRICS[name].average([records[task] for task in common])
        rows.append(row)
    return rows


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Spread:
    """Mean of `second - first` over tasks with its 95 % bootstrap interval.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    if len(first) != len(second) or not first:
        raise UserError(f"{len(first)} values against {len(second)}; there must be as many, and at least one")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    return sum(differences) / len(differences), *interval(differences, seed=seed)


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as text, for a table."""
    made = []
    for n, row in enumerate(rows):
        line = [row["run"], str(row["tasks"])]
        for name in DIFFERENCES:
            line += [cell(name, row), "" if n == 0 else difference_cell(row[f"{name}_difference"])]
        made.append([*line, *(cell(name, row) for name in VALUES)])
    return made


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    return as_markdown(HEAD, cells(rows))


def draw(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Plot accuracy against searches a question, with the interval of the accuracy, to a picture file."""
    draw_points({row["run"]: ((row["searches"],) * 3, (row["accuracy"], *row["interval"])) for row in rows}, out)
