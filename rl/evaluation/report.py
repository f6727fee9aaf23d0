"""An evaluation's figures for people: a table for the terminal, the same in Markdown, and bar charts.

Columns and charts follow from the table of metrics (`lensgraph.rl.evaluation.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from lensgraph.rl.evaluation.metrics import DIFFERENCES, METRICS, SHARE, interval_key
from lensgraph.rl.evaluation.plots import error_bars, saved_figure
from lensgraph.rl.evaluation.tables import as_markdown

SHOWN = {name: metric for name, metric in METRICS.items() if metric.head}
HEAD = (
    "",
    "tasks",
    *(head for one in SHOWN.values() for head in ((one.head, "95 %") if one.interval else (one.head,))),
)
"""Columns: a metric, and its interval where it has one."""
WIDTH = 112
"""Columns of a terminal that the table needs; on a narrower one it wraps, but nothing is cut."""


def lines(figures: dict[str, Any]) -> Iterator[list[str]]:
    """The cells: all tasks, every family, then every knowledge label."""
    rows = [("all", figures["all"]), *figures["by_family"].items()]
    rows += [(f"({name})", row) for name, row in figures["by_knowledge"].items() if name not in figures["by_family"]]
    for name, row in rows:
        cells = [name, str(row["tasks"])]
        for key, metric in SHOWN.items():
            cells.append(format(row[key], metric.form))
            if metric.interval:
                cells.append("-".join(format(end, metric.form) for end in row[interval_key(key)]))
        yield cells


def table(figures: dict[str, Any], title: str) -> Table:
    """The table for the terminal."""
    shown = Table(title=title, caption=waiting(figures), padding=(0, 0), collapse_padding=True)
    for column in HEAD:
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    for line in lines(figures):
        shown.add_row(*line)
    return shown


def waiting(figures: dict[str, Any]) -> str:
    """Seconds a question by node, and the number of failed runs, if any."""
    seconds = sorted(figures["all"]["seconds"].items(), key=lambda item: -item[1])
    broken = figures["all"]["failed_runs"]
    said = "waiting, seconds a question: " + ", ".join(f"{node} {value:.2f}" for node, value in seconds)
    return said + (f"; failed runs: {broken} of {figures['all']['tasks']}, counted as wrong" if broken else "")


def markdown(figures: dict[str, Any], title: str) -> str:
    """The table for a file."""
    below = waiting(figures)
    return f"### {title}\n\n{as_markdown(HEAD, list(lines(figures)))}\n{below[:1].upper()}{below[1:]}.\n"


def draw(figures: dict[str, Any], title: str, out: Path) -> None:
    """Draw a bar chart by family of every metric that comparisons show with a difference."""
    rows = {"all": figures["all"], **figures["by_family"]}
    names = list(rows)
    with saved_figure(out, columns=len(DIFFERENCES), title=title) as axes:
        for axis, key in zip(axes, DIFFERENCES, strict=True):
            metric = METRICS[key]
            axis.set_title(metric.title)
            axis.tick_params(axis="x", rotation=45)
            if metric.form == SHARE:
                axis.set_ylim(0, 1)
            bottom = [0.0] * len(rows)
            for part in metric.parts or (key,):
                values = [row[part] for row in rows.values()]
                ends = None
                if metric.interval and not metric.parts:
                    bars = [error_bars(row[key], *row[interval_key(key)]) for row in rows.values()]
                    ends = list(zip(*bars, strict=True))
                axis.bar(names, values, bottom=bottom, yerr=ends, capsize=3, label=METRICS[part].head, alpha=0.8)
                bottom = [below + value for below, value in zip(bottom, values, strict=True)]
            if metric.parts:
                axis.legend()
