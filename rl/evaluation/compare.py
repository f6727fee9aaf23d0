"""`compare`: several evaluations side by side, with paired intervals.

    python -m lensgraph.rl compare rag=rag.jsonl agent=agent.jsonl --markdown table.md --plot curve.png

The files are records that `evaluate --records FILE` wrote. Only tasks that all of them hold are compared, each
with itself: the difference to the first file is bootstrapped over tasks, so a task that is hard for every run
adds no noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lensgraph.rl.evaluation.comparison import HEAD, cells, compare, draw, markdown
from lensgraph.rl.evaluation.question_mix import add_option, caption
from lensgraph.rl.evaluation.record import Record, read_records


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE", help="records; others are compared with the first")
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


def _named(run: str) -> tuple[str, dict[str, Record]]:
    name, equals, path = run.partition("=")
    return (name, read_records(Path(path))) if equals else (Path(run).stem, read_records(Path(run)))
