"""`python -m lensgraph.rl compare`: several evaluations side by side, with paired intervals.

    python -m lensgraph.rl compare rag=rag.jsonl agent=agent.jsonl --markdown table.md --plot curve.png

The files are records of `python -m lensgraph.rl evaluate --records FILE`. Only tasks that all of them hold are compared,
each with itself: the difference to the first file is bootstrapped over tasks, so that tasks that are hard for everybody
cancel out.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lensgraph.rl.evaluation import provenance
from lensgraph.rl.evaluation.evaluate import RESAMPLES, Record, interval
from lensgraph.rl.evaluation.question_mix import Spread, add_option, caption, weighted

HEAD = ("run", "tasks", "accuracy (95 %)", "against the first", "searches", "against the first", "well-formed turns")


def load(path: Path) -> dict[str, Record]:
    """The records of a file, by task.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no records.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; make it with 'python -m lensgraph.rl evaluate --records {path}'"
        )
    try:
        records = {row["task"]: Record(**row) for row in provenance.rows(path)}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: not records of `python -m lensgraph.rl evaluate` ({error})") from error
    if not records:
        raise ValueError(f"{path} holds no records")
    return records


def searches(record: Record) -> float:
    """Search calls of an episode."""
    return float(record.image_searches + record.text_searches)


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> tuple[float, float, float]:
    """Mean of `second - first` over tasks with its 95 % bootstrap interval.

    Raises:
        ValueError: the two are not as long as each other, or empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"paired values must be as many, and some: {len(first)} and {len(second)}")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    rng, count = random.Random(seed), len(differences)
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    return sum(differences) / count, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def compare(runs: Mapping[str, Mapping[str, Record]], share: float | None = None) -> list[dict[str, Any]]:
    """One row a run, on the tasks that all runs hold. With a `share`, means are weighted so that it is that of search-free
    questions (`lensgraph.rl.evaluation.question_mix`); the share of well-formed turns is never weighted.

    Raises:
        ValueError: the runs have no task in common, or cannot be weighted.
    """
    common = sorted(set.intersection(*(set(records) for records in runs.values())))
    if not common:
        raise ValueError("the runs have no task in common; evaluate them on the same set")
    rows: list[dict[str, Any]] = []
    base: list[Record] = []
    for name, records in runs.items():
        chosen = [records[task] for task in common]
        base = base or chosen
        right, calls = [float(r.correct) for r in chosen], [searches(r) for r in chosen]
        turns = sum(r.turns for r in chosen)
        if share is None:
            accuracy, spread = sum(right) / len(right), interval(right)
            mean_calls = sum(calls) / len(calls)
            more_right = paired([float(r.correct) for r in base], right)
            more_calls = paired([searches(r) for r in base], calls)
        else:
            labels = {r.task: r.knowledge for r in base}
            accuracy, low, high = weighted(dict(zip(common, right, strict=True)), labels, share)
            spread = (low, high)
            mean_calls = weighted(dict(zip(common, calls, strict=True)), labels, share)[0]
            pairs = list(zip(common, base, chosen, strict=True))
            more_right = weighted({task: float(b.correct) - float(a.correct) for task, a, b in pairs}, labels, share)
            more_calls = weighted({task: searches(b) - searches(a) for task, a, b in pairs}, labels, share)
        rows.append(
            {
                "run": name,
                "tasks": len(common),
                "accuracy": accuracy,
                "interval": spread,
                "accuracy_difference": more_right,
                "searches": mean_calls,
                "searches_difference": more_calls,
                "well_formed_turns": 1 - sum(r.malformed for r in chosen) / max(1, turns),
            }
        )
    return rows


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as text, for a table."""
    made = []
    for n, row in enumerate(rows):
        low, high = row["interval"]
        differences = [
            "" if n == 0 else shown(difference)
            for difference in (row["accuracy_difference"], row["searches_difference"])
        ]
        accuracy = f"{row['accuracy']:.3f} ({low:.3f}-{high:.3f})"
        made.append(
            [row["run"], str(row["tasks"]), accuracy, differences[0], f"{row['searches']:.2f}", differences[1],
             f"{row['well_formed_turns']:.3f}"]
        )  # fmt: skip
    return made


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    return as_markdown(HEAD, cells(rows))


def as_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def shown(difference: tuple[float, float, float]) -> str:
    """A paired difference with its interval, as a cell."""
    mean, low, high = difference
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def draw(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Accuracy against searches a question, with intervals, to a picture file."""
    draw_points({row["run"]: ((row["searches"],) * 3, (row["accuracy"], *row["interval"])) for row in rows}, out)


def draw_points(points: Mapping[str, tuple[Spread, Spread]], out: Path) -> None:
    """Name -> (searches a question, accuracy), each with its interval, to a picture file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    for name, ((x, fewest, most), (y, low, high)) in points.items():
        # a mean may lie outside its bootstrap interval by a rounding
        bars = {
            "xerr": [[max(0.0, x - fewest)], [max(0.0, most - x)]],
            "yerr": [[max(0.0, y - low)], [max(0.0, high - y)]],
        }
        axis.errorbar(x, y, **bars, marker="o", capsize=3, linestyle="", label=name)
    axis.legend(fontsize=8, loc="lower center")
    axis.set_xlabel("searches a question")
    axis.set_ylabel("accuracy")
    axis.grid(alpha=0.3)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def _named(run: str) -> tuple[str, dict[str, Record]]:
    name, equals, path = run.partition("=")
    return (name, load(Path(path))) if equals else (Path(run).stem, load(Path(run)))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=FILE", help="records; the first is what others are held against"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write a Markdown table here")
    parser.add_argument("--plot", type=Path, help="draw accuracy against searches here")
    add_option(parser)
    args = parser.parse_args(argv)
    try:
        named = [_named(run) for run in args.runs]
        twice = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
        if twice:
            raise ValueError(f"two runs are called {', '.join(twice)}; name them apart as NAME=FILE")
        rows = compare(dict(named))
        mixed = None if args.search_free is None else compare(dict(named), args.search_free)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for title, found in [("", rows)] + ([] if mixed is None else [(caption(args.search_free), mixed)]):
        table = Table(*HEAD, title=title or None)
        for row in cells(found):
            table.add_row(*row)
        Console().print(table)
    if args.json:
        figures = rows if mixed is None else {"rows": rows, "search_free": args.search_free, "weighted": mixed}
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if args.markdown:
        below = "" if mixed is None else f"\n{caption(args.search_free)}:\n\n{markdown(mixed)}"
        args.markdown.write_text(markdown(rows) + below, "utf-8")
    if args.plot:
        draw(rows, args.plot)
    return 0
