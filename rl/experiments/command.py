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

from rich.console import Console

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.question_mix import share_of
from lensgraph.rl.experiments.jobs import jobs, run_jobs
from lensgraph.rl.experiments.page import write
from lensgraph.rl.experiments.plan import PLAN, read_plan


def run(args: argparse.Namespace) -> int:
    """Make the missing runs; 0 done, 1 a run failed."""
    plan = read_plan(args.plan or PLAN)
    if unknown := sorted(set(args.only) - set(plan.experiments)):
        raise UserError(f"no experiment {', '.join(unknown)}; there are {', '.join(plan.experiments)}")
    return 1 if run_jobs(jobs(plan, args.folder, args.only, args.seeds), args.jobs, Console()) else 0


def table(args: argparse.Namespace) -> int:
    """Print the tables, or write them; 0 done."""
    share = share_of(args.search_free)
    write(read_plan(args.plan or PLAN), args.folder, args.out, Console(), search_free=share)
    return 0
