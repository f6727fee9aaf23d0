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

from rich.console import Console

from lensgraph.agent.config import load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.graphs import table
from lensgraph.rl.evaluation import report
from lensgraph.rl.evaluation.metrics import allowed_calls, by_group
from lensgraph.rl.evaluation.run_tasks import batched, evaluate
from lensgraph.rl.tasks import load_tasks


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done, 1 every run failed."""
    config = batched(load_config(args.config, args.overrides))
    tasks = load_tasks(args.tasks, args.limit, family=args.family)
    table.find(args.graph)
    limits = Backends(Context(config=config)).dialect.limits
    started = time.perf_counter()
    for path in filter(None, (args.json, args.markdown, args.plot)):
        path.open("ab").close()  # it can be written: found out before anything is spent
    records = evaluate(
        tasks, graph=args.graph, config=config, concurrent=args.concurrent, records=args.records,
        max_failed_share=args.max_failed_share,
    )  # fmt: skip
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
