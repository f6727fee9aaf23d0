"""`evaluate`: run a graph over a task set and report its metrics.

    python -m lensgraph.rl evaluate --graph search_agent --tasks world/test --limit 200 --json out.json

Every question is one run of the compiled graph that applications serve. The metrics and their definitions are
the table in `lensgraph.rl.evaluation.metrics`. Intervals are 95 % percentile bootstraps over tasks. The search
ratio is calls made over calls allowed (MMSearch-R1, caption of Table 1), by the limits of the configured
dialect.

With `--records FILE` every finished question is appended to the file, and an interrupted run goes on from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from lensgraph.agent.config import ConfigError, load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.graphs import table
from lensgraph.rl.evaluation import report
from lensgraph.rl.evaluation.metrics import allowed_calls, by_group
from lensgraph.rl.evaluation.provenance import OtherRecordsError
from lensgraph.rl.evaluation.run_tasks import batched, evaluate
from lensgraph.rl.run.jsonl import DamagedLineError
from lensgraph.rl.tasks import TaskError, load_tasks
from lensgraph.tools.safety.one_line import one_line


def main(argv: Iterable[str] | None = None) -> int:
    """Run the command line; 0 done, 1 every run failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--graph", default="search_agent", help=table.HELP)
    parser.add_argument("--tasks", default="world/test", help="a task set's name or a .jsonl file")
    parser.add_argument("--family", help="only this family")
    parser.add_argument("--limit", type=int, help="the first so many tasks")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--plot", type=Path, help="draw accuracy and searches by family here (needs lensgraph[train])")
    parser.add_argument("--records", type=Path, help="append every question here, and go on from it")
    parser.add_argument("--concurrent", type=int, default=32, help="questions at a time")
    parser.add_argument("--config", type=Path, help="a configuration file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as policy.model=FOLDER")
    args = parser.parse_args(list(argv) if argv is not None else None)
    try:
        config = batched(load_config(args.config, args.overrides))
        tasks = load_tasks(args.tasks, args.limit, family=args.family)
        table.find(args.graph)
        limits = Backends(Context(config=config)).dialect.limits
    except (ConfigError, TaskError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    started = time.perf_counter()
    try:
        for path in filter(None, (args.json, args.markdown, args.plot)):
            path.open("ab").close()  # it can be written: found out before anything is spent
        records = evaluate(tasks, graph=args.graph, config=config, concurrent=args.concurrent, records=args.records)
    except (ConfigError, OtherRecordsError, DamagedLineError, OSError) as error:
        print(one_line(error, 1_000, first=True), file=sys.stderr)
        return 2
    broken = [record.error for record in records if record.error is not None]
    if broken:
        print(
            f"failed runs: {len(broken)} of {len(records)}, counted as wrong; the first: {broken[0]}", file=sys.stderr
        )
    figures = {
        "graph": args.graph,
        "tasks": args.tasks,
        "policy": config.policy.model,
        "wall_seconds": time.perf_counter() - started,
        **by_group(records, allowed_calls(args.graph, limits)),
    }
    title = f"{args.graph} on {args.tasks}"
    Console(width=max(report.WIDTH, Console().width)).print(report.table(figures, title))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if args.markdown:
        args.markdown.write_text(report.markdown(figures, title), "utf-8")
    if args.plot:
        report.draw(figures, title, args.plot)
    return 1 if len(broken) == len(records) else 0
