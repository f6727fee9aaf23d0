"""An evaluation for people: a table for the terminal, the same in Markdown, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

HEAD = (
    "", "tasks", "accuracy", "95 %", "searches", "image", "text", "ratio", "searching", "turns", "well formed", "price",
    "seconds",
)  # fmt: skip
"""Searches, image, text, turns, price and seconds are means a question; `ratio` is the search ratio, `searching` the share
of questions with a search at all."""


WIDTH = 112
"""Columns of a terminal that the table needs; on a narrower one it wraps, but nothing is cut."""


def lines(figures: dict[str, Any]) -> Iterator[list[str]]:
    """The cells: all tasks, every family, then where the answer can come from."""
    rows = [("all", figures["all"]), *figures["by_family"].items()]
    rows += [(f"({name})", row) for name, row in figures["by_knowledge"].items() if name not in figures["by_family"]]
    for name, row in rows:
        low, high = row["interval"]
        image, text = row["image_searches"], row["text_searches"]
        yield [
            name, str(row["tasks"]), f"{row['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", f"{image + text:.2f}",
            f"{image:.2f}", f"{text:.2f}", f"{row['search_ratio']:.3f}", f"{row['searching_share']:.3f}",
            f"{row['turns']:.2f}", f"{row['well_formed_turns']:.3f}", f"{row['price']:g}",
            f"{sum(row['seconds'].values()):.2f}",
        ]  # fmt: skip


def table(figures: dict[str, Any], title: str) -> Table:
    """For the terminal."""
    shown = Table(title=title, caption=waiting(figures), padding=(0, 0), collapse_padding=True)
    for column in HEAD:
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    for line in lines(figures):
        shown.add_row(*line)
    return shown


def waiting(figures: dict[str, Any]) -> str:
    """Where the seconds of a question go, and how many runs failed, if any."""
    seconds = sorted(figures["all"]["seconds"].items(), key=lambda item: -item[1])
    broken = figures["all"]["failed_runs"]
    said = "waiting, seconds a question: " + ", ".join(f"{node} {value:.2f}" for node, value in seconds)
    return said + (f"; failed runs: {broken} of {figures['all']['tasks']}, counted as wrong" if broken else "")


def markdown(figures: dict[str, Any], title: str) -> str:
    """For a file."""
    rows = [
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(f"| {' | '.join(line)} |" for line in lines(figures)),
    ]
    return "\n".join([f"### {title}", "", *rows, "", f"{waiting(figures)[:1].upper()}{waiting(figures)[1:]}.", ""])


def draw(figures: dict[str, Any], title: str, out: Path) -> None:
    """Accuracy by family with its intervals, and the searches behind it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {"all": figures["all"], **figures["by_family"]}
    names = list(rows)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    accuracy = [row["accuracy"] for row in rows.values()]
    spread = [[max(0.0, row["accuracy"] - row["interval"][0]) for row in rows.values()]]
    spread.append([max(0.0, row["interval"][1] - row["accuracy"]) for row in rows.values()])
    left.bar(names, accuracy, yerr=spread, capsize=3, color="tab:blue", alpha=0.8)
    left.set_ylim(0, 1)
    left.set_title("accuracy")
    image = [row["image_searches"] for row in rows.values()]
    right.bar(names, image, label="image", color="tab:orange", alpha=0.8)
    right.bar(names, [row["text_searches"] for row in rows.values()], bottom=image, label="text", color="tab:green")
    right.set_title("searches a question")
    right.legend()
    for axis in (left, right):
        axis.tick_params(axis="x", rotation=45)
    figure.suptitle(title)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
