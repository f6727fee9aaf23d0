"""One experiment over several seeds: its figures, held against another's on the same tasks.

A task's value is its mean over the seeds, and tasks are resampled; so an interval tells what other tasks would have shown,
and the spread over seeds stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lensgraph.rl.evaluation.compare import as_markdown, draw_points, load, paired, searches, shown
from lensgraph.rl.evaluation.evaluate import ALLOWED_CALLS, Record, interval
from lensgraph.rl.evaluation.question_mix import Spread, weighted

HEAD = (
    "run", "seeds x tasks", "accuracy (95 %)", "spread over seeds", "against the first", "searches a question",
    "against the first", "search ratio (of 2)", "searching: known and visible", "searching: unknown", "well-formed turns",
)  # fmt: skip
WEIGHTED_HEAD = (
    "run", "seeds x tasks", "accuracy (95 %)", "against the first", "searches a question (95 %)", "against the first",
    "of the first's searches",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The records of an experiment, one mapping a seed."""

    name: str
    seeds: tuple[dict[str, Record], ...]

    def per_task(self, value: Callable[[Record], float]) -> dict[str, float]:
        """Task -> mean over the seeds."""
        common = set.intersection(*(set(records) for records in self.seeds))
        return {task: mean(value(records[task]) for records in self.seeds) for task in sorted(common)}

    def labels(self) -> dict[str, str]:
        """Task -> where its answer can come from without a search."""
        return {task: record.knowledge for records in self.seeds for task, record in records.items()}

    def weighted(self, share: float) -> dict[str, Spread]:
        """Accuracy and searches a question where `share` of the questions need no search.

        Raises:
            ValueError: a task has no label, or a kind has no task.
        """
        values = {"accuracy": _right, "searches": searches}
        return {name: weighted(self.per_task(value), self.labels(), share) for name, value in values.items()}

    def share(self, value: Callable[[Record], float], *, unknown: bool) -> float | None:
        """Mean over the tasks that need a search, or over those that do not; None: there are none."""
        chosen = [value(r) for records in self.seeds for r in records.values() if (r.knowledge == "unknown") == unknown]
        return mean(chosen) if chosen else None

    def figures(self) -> dict[str, Any]:
        """All figures, as plain values."""
        right, calls = self.per_task(_right), self.per_task(searches)
        turns = sum(record.turns for records in self.seeds for record in records.values())
        malformed = sum(record.malformed for records in self.seeds for record in records.values())
        each = [mean(map(_right, records.values())) for records in self.seeds]
        return {
            "seeds": len(self.seeds),
            "tasks": len(right),
            "accuracy": mean(right.values()),
            "interval": interval(list(right.values())),
            "accuracy_by_seed": each,
            "spread": stdev(each) if len(each) > 1 else None,
            "searches": mean(calls.values()),
            "searches_interval": interval(list(calls.values())),
            "search_ratio": mean(calls.values()) / ALLOWED_CALLS,
            "searching_known_visible": self.share(_searched, unknown=False),
            "searching_unknown": self.share(_searched, unknown=True),
            "well_formed_turns": 1 - malformed / max(1, turns),
        }


def row(name: str, files: Sequence[Path]) -> Row:
    """An experiment from its records, one file a seed."""
    return Row(name, tuple(load(path) for path in files))


def against(base: Row, other: Row, share: float | None = None) -> dict[str, Spread]:
    """Accuracy and searches of `other` minus those of `base`, task by task: mean, low, high. With a `share`, weighted so that
    it is that of search-free questions.

    Raises:
        ValueError: they have no task in common.
    """
    made = {}
    for key, value in (("accuracy", _right), ("searches", searches)):
        first, second = base.per_task(value), other.per_task(value)
        common = sorted(set(first) & set(second))
        if share is not None:
            made[key] = weighted({task: second[task] - first[task] for task in common}, base.labels(), share)
            continue
        made[key] = paired([first[task] for task in common], [second[task] for task in common])
    return made


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as text; differences are to the first."""
    made = []
    for one in rows:
        figures = one.figures()
        low, high = figures["interval"]
        held = None if one is rows[0] else against(rows[0], one)
        made.append(
            [
                one.name,
                f"{figures['seeds']} x {figures['tasks']}",
                f"{figures['accuracy']:.3f} ({low:.3f}-{high:.3f})",
                "" if figures["spread"] is None else f"{figures['spread']:.3f}",
                "" if held is None else shown(held["accuracy"]),
                f"{figures['searches']:.2f}",
                "" if held is None else shown(held["searches"]),
                f"{figures['search_ratio']:.3f}",
                _share(figures["searching_known_visible"]),
                _share(figures["searching_unknown"]),
                f"{figures['well_formed_turns']:.3f}",
            ]
        )
    return made


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    return as_markdown(HEAD, cells(rows))


def weighted_cells(rows: Sequence[Row], share: float) -> list[list[str]]:
    """The rows as text, weighted; differences are to the first."""
    made = []
    base = rows[0].weighted(share)["searches"][0]
    for one in rows:
        figures = one.weighted(share)
        held = None if one is rows[0] else against(rows[0], one, share)
        (right, low, high), (calls, fewest, most) = figures["accuracy"], figures["searches"]
        made.append(
            [
                one.name,
                f"{len(one.seeds)} x {len(one.per_task(_right))}",
                f"{right:.3f} ({low:.3f}-{high:.3f})",
                "" if held is None else shown(held["accuracy"]),
                f"{calls:.2f} ({fewest:.2f}-{most:.2f})",
                "" if held is None else shown(held["searches"]),
                "" if held is None or not base else f"{calls / base:.1%}",
            ]
        )
    return made


def weighted_markdown(rows: Sequence[Row], share: float) -> str:
    """The weighted rows as a Markdown table."""
    return as_markdown(WEIGHTED_HEAD, weighted_cells(rows, share))


def draw(rows: Sequence[Row], out: Path) -> None:
    """Accuracy against searches a question, with intervals, to a picture file."""
    figures = {one.name: one.figures() for one in rows}
    draw_points(
        {
            name: ((f["searches"], *f["searches_interval"]), (f["accuracy"], *f["interval"]))
            for name, f in figures.items()
        },
        out,
    )


def _right(record: Record) -> float:
    return float(record.correct)


def _searched(record: Record) -> float:
    return float(searches(record) > 0)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
