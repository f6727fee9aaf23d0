"""One experiment over several seeds: its figures, and its differences to another experiment on the same tasks.

A task's value is its mean over the seeds, and tasks are resampled: an interval covers the choice of tasks, and the
spread over seeds stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lensgraph.rl.evaluation.comparison import paired
from lensgraph.rl.evaluation.metrics import ALLOWED_CALLS, DIFFERENCES, METRICS, VALUES, Spread, interval_key
from lensgraph.rl.evaluation.plots import draw_points
from lensgraph.rl.evaluation.question_mix import weighted
from lensgraph.rl.evaluation.record import Record, read_records
from lensgraph.rl.evaluation.tables import as_markdown, cell, difference_cell, heading
from lensgraph.tools.runtime.interval import interval

FIRST = "against the first"
HEAD = ("run", "seeds x tasks", *(head for name in DIFFERENCES for head in (
    heading(name), *(("spread over seeds",) if name == "accuracy" else ()), FIRST)),
    f"search ratio (of {ALLOWED_CALLS})", "searching: known and visible", "searching: unknown",
    *(heading(name) for name in VALUES))  # fmt: skip
WEIGHTED_HEAD = ("run", "seeds x tasks", *(head for name in DIFFERENCES for head in (
    heading(name, interval=True), FIRST)), "of the first's searches")  # fmt: skip


@dataclass(frozen=True)
class SeedRuns:
    """The records of an experiment."""

    name: str
    """Name of the experiment."""
    seeds: tuple[dict[str, Record], ...]
    """Task -> record, for every seed."""

    def per_task(self, name: str) -> dict[str, float]:
        """Task -> a metric's mean over the seeds, for the tasks that every seed has."""
        of = METRICS[name].of
        common = set.intersection(*(set(records) for records in self.seeds))
        return {task: mean(of(records[task]) for records in self.seeds) for task in sorted(common)}

    def labels(self) -> dict[str, str]:
        """Task -> its knowledge label."""
        return {task: record.knowledge for records in self.seeds for task, record in records.items()}

    def weighted(self, share: float) -> dict[str, Spread]:
        """The compared metrics where `share` of the questions need no search.

        Raises:
            ValueError: a task has no label, or a kind has no task.
        """
        return {name: weighted(self.per_task(name), self.labels(), share) for name in DIFFERENCES}

    def searching(self, *, unknown: bool) -> float | None:
        """Share of the questions with a search, among those that need one or among the others; None: there are
        none."""
        of = METRICS["searching_share"].of
        chosen = [of(r) for some in self.seeds for r in some.values() if (r.knowledge == "unknown") == unknown]
        return mean(chosen) if chosen else None

    def figures(self) -> dict[str, Any]:
        """All figures, as plain values."""
        everything = [record for records in self.seeds for record in records.values()]
        by_seed = [METRICS["accuracy"].average(list(records.values())) for records in self.seeds]
        found: dict[str, Any] = {
            "seeds": len(self.seeds),
            "tasks": len(self.per_task("accuracy")),
            "accuracy_by_seed": by_seed,
            "spread": stdev(by_seed) if len(by_seed) > 1 else None,
        }
        for name in DIFFERENCES:
            values = list(self.per_task(name).values())
            found |= {name: mean(values), interval_key(name): interval(values)}
        return {
            **found,
            "search_ratio": found["searches"] / ALLOWED_CALLS,
            "searching_known_visible": self.searching(unknown=False),
            "searching_unknown": self.searching(unknown=True),
            **{name: METRICS[name].average(everything) for name in VALUES},
        }


def read_seeds(name: str, files: Sequence[Path]) -> SeedRuns:
    """An experiment from its records, one file a seed."""
    return SeedRuns(name, tuple(read_records(path) for path in files))


def against(base: SeedRuns, other: SeedRuns, share: float | None = None) -> dict[str, Spread]:
    """The compared metrics of `other` minus those of `base`, task by task.

    With a `share`, weighted so that this share of the questions needs no search.

    Raises:
        ValueError: they have no task in common.
    """
    made = {}
    for name in DIFFERENCES:
        first, second = base.per_task(name), other.per_task(name)
        common = sorted(set(first) & set(second))
        if share is None:
            made[name] = paired([first[task] for task in common], [second[task] for task in common])
        else:
            made[name] = weighted({task: second[task] - first[task] for task in common}, base.labels(), share)
    return made


def markdown(runs: Sequence[SeedRuns]) -> str:
    """A Markdown table of experiments; differences are to the first."""
    rows = []
    for one in runs:
        figures = one.figures()
        differences = {} if one is runs[0] else against(runs[0], one)
        row = [one.name, f"{figures['seeds']} x {figures['tasks']}"]
        for name in DIFFERENCES:
            row.append(cell(name, figures))
            if name == "accuracy":
                row.append(_share(figures["spread"]))
            row.append(difference_cell(differences[name]) if differences else "")
        shares = (figures[key] for key in ("search_ratio", "searching_known_visible", "searching_unknown"))
        rows.append([*row, *map(_share, shares), *(cell(name, figures) for name in VALUES)])
    return as_markdown(HEAD, rows)


def weighted_markdown(runs: Sequence[SeedRuns], share: float) -> str:
    """The same for questions of which `share` need no search."""
    rows = []
    searches = runs[0].weighted(share)["searches"][0]
    for one in runs:
        figures: dict[str, Any] = {}
        for name, (value, low, high) in one.weighted(share).items():
            figures |= {name: value, interval_key(name): (low, high)}
        differences = {} if one is runs[0] else against(runs[0], one, share)
        row = [one.name, f"{len(one.seeds)} x {len(one.per_task('accuracy'))}"]
        for name in DIFFERENCES:
            row += [cell(name, figures, interval=True), difference_cell(differences[name]) if differences else ""]
        rows.append([*row, f"{figures['searches'] / searches:.1%}" if differences and searches else ""])
    return as_markdown(WEIGHTED_HEAD, rows)


def draw(runs: Sequence[SeedRuns], out: Path) -> None:
    """Plot accuracy against searches a question, with intervals, to a picture file."""
    figures = {one.name: one.figures() for one in runs}
    draw_points(
        {
            name: ((f["searches"], *f["searches_interval"]), (f["accuracy"], *f["interval"]))
            for name, f in figures.items()
        },
        out,
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
