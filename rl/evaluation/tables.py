"""Cells of printed tables, shared by comparisons and the tables over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lensgraph.rl.evaluation.metrics import METRICS, Spread, interval_key


def as_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def heading(name: str, *, interval: bool | None = None) -> str:
    """A metric's column in a comparison; `interval`: shown with one, by default as in the report."""
    metric = METRICS[name]
    return f"{metric.title} (95 %)" if (metric.interval if interval is None else interval) else metric.title


def cell(name: str, figures: Mapping[str, Any], *, interval: bool | None = None) -> str:
    """A metric's value in a comparison, with its interval as `heading` says."""
    metric = METRICS[name]
    value = format(figures[name], metric.form)
    if not (metric.interval if interval is None else interval):
        return value
    low, high = (format(end, metric.form) for end in figures[interval_key(name)])
    return f"{value} ({low}-{high})"


def difference_cell(difference: Spread) -> str:
    """A paired difference with its interval."""
    mean, low, high = difference
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
