"""`compare`: several evaluations side by side, with paired intervals.

    python -m lensgraph.rl compare rag=rag.jsonl agent=agent.jsonl --markdown table.md --plot curve.png

The files are records that `evaluate --records FILE` wrote. Only tasks that all of them hold are compared, each
with itself: the difference to the first file is bootstrapped over tasks, so a task that is hard for every run
adds no noise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.comparison import HEAD, cells, compare, draw, markdown
from lensgraph.rl.evaluation.question_mix import caption, share_of
from lensgraph.rl.evaluation.record import Record, read_records


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done."""
    named = [_named(run) for run in args.runs]
    twice = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
    if twice:
        raise UserError(f"two runs are called {', '.join(twice)}; name them apart as NAME=FILE")
    share = share_of(args.search_free)
    rows = compare(dict(named))
    mixed = [] if share is None else [(caption(share), compare(dict(named), share))]
    for title, found in [("", rows), *mixed]:
        table = Table(*HEAD, title=title or None)
        for row in cells(found):
            table.add_row(*row)
        Console().print(table)
    if args.json:
        figures = {"rows": rows, "search_free": share, "weighted": mixed[0][1]} if mixed else rows
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if args.markdown:
        below = "".join(f"\n{title}:\n\n{markdown(found)}" for title, found in mixed)
        args.markdown.write_text(markdown(rows) + below, "utf-8")
    if args.plot:
        draw(rows, args.plot)
    return 0


def _named(run: str) -> tuple[str, dict[str, Record]]:
    name, equals, path = run.partition("=")
    return (name, read_records(Path(path))) if equals else (Path(run).stem, read_records(Path(run)))
