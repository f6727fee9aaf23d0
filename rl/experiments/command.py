"""`experiments`: the runs behind the results page, and its tables.

    python -m lensgraph.rl experiments run --jobs 2            train and evaluate what is missing
    python -m lensgraph.rl experiments table --out rl/results  write tables, figures and plots
    python -m lensgraph.rl experiments table --search-free     also for the paper's mix of questions

`plan.yaml` names the runs: each is the online recipe with some values replaced. An interrupted run goes on, and a
finished one is not made again. Records of another policy, graph or task set than the plan's are not shown; `run`
renames them (`.old`) and makes them again. Records that do not name their policy are taken as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from lensgraph.rl.evaluation.question_mix import add_option
from lensgraph.rl.experiments.jobs import jobs, run_jobs
from lensgraph.rl.experiments.page import write
from lensgraph.rl.experiments.plan import PLAN, read_plan


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 a run failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--plan", type=Path, default=PLAN, help="the experiments, a YAML file")
    parser.add_argument("--folder", type=Path, default=Path("runs/experiments"), help="where runs are kept")
    parser.add_argument("--only", nargs="*", default=[], help="names of experiments")
    parser.add_argument("--seeds", nargs="*", type=int, default=[], help="instead of the plan's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--out", type=Path, help="table: write figures.json and curve.png here, and the tables into README.md"
    )
    add_option(parser)
    args = parser.parse_args(argv)
    console = Console()
    try:
        plan = read_plan(args.plan)
        if unknown := sorted(set(args.only) - set(plan.experiments)):
            raise ValueError(f"no experiment {', '.join(unknown)}; there are {', '.join(plan.experiments)}")
        if args.command == "table":
            write(plan, args.folder, args.out, console, search_free=args.search_free)
            return 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if run_jobs(jobs(plan, args.folder, args.only, args.seeds), args.jobs, console) else 0
