"""`python -m lensgraph.rl experiments`: the runs behind the results page, and its tables.

    python -m lensgraph.rl experiments run --jobs 2            train and evaluate what is missing, every run with every seed
    python -m lensgraph.rl experiments table --out rl/results  tables, figures and plots from what is there
    python -m lensgraph.rl experiments table --search-free     also for the paper's mix of questions (`lensgraph.rl.evaluation.question_mix`)

`experiments.yaml` names the runs: each is the online recipe with some values replaced. A run that was interrupted goes on,
and a run that is done is not made again, so the whole plan may be run in as many pieces as one likes. Records of another
policy than the one that lies there now, graph or task set are no longer shown, and `run` sets them aside (`.old`) and
makes them again; records from before they named their policy are taken as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from lensgraph.rl.evaluation import provenance
from lensgraph.rl.evaluation.question_mix import add_option, caption
from lensgraph.rl.evaluation.seeds import Row, against, markdown, row, weighted_markdown
from lensgraph.rl.evaluation.seeds import draw as draw_curve

PLAN = Path(__file__).parent / "experiments.yaml"
BEGIN, END = "<!-- tables: python -m lensgraph.rl experiments table -->", "<!-- end of tables -->"
"""Where a results page holds its tables."""


class Experiment(BaseModel):
    """One line of a table."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    train: dict[str, Any] | None = None
    """Values of the recipe to replace. None: nothing is trained, the policy is the one that training starts from."""
    policy_of: str | None = None
    """Evaluate the policies of this other experiment."""
    graph: str = "search_agent"
    """The graph to evaluate."""
    seeds: list[int] | None = None
    """Instead of the plan's."""
    limit: int | None = None
    """Tasks, instead of the plan's. Differences are of the tasks that both experiments have."""


class Plan(BaseModel):
    """All experiments and the tables that show them."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    recipe: str = "world_grpo"
    """What every training run begins with."""
    start_from: str = "pocket-cold-start"
    """The policy that it trains, for what is not trained."""
    tasks: str = "world/test"
    """What every policy is measured on."""
    limit: int = 400
    """Tasks of it."""
    seeds: list[int] = [0, 1, 2]
    """Of every training run."""
    experiments: dict[str, Experiment]
    """By name."""
    tables: dict[str, list[str]]
    """Title -> the experiments in it; differences are to the first."""
    curve: list[str] = []
    """Experiments on the plot of accuracy against searches."""


@dataclass(frozen=True)
class Job:
    """One experiment with one seed."""

    name: str
    seed: int
    plan: Plan
    folder: Path

    @property
    def experiment(self) -> Experiment:
        """What is to be done."""
        return self.plan.experiments[self.name]

    @property
    def output(self) -> Path:
        """The training run's folder."""
        return self.folder / (self.experiment.policy_of or self.name) / str(self.seed)

    @property
    def records(self) -> Path:
        """Evaluation of the job."""
        return self.folder / self.name / str(self.seed) / f"{self.experiment.graph}.jsonl"

    @property
    def policy(self) -> str:
        """What is evaluated: a checkpoint's name or folder."""
        start = self.experiment.train is None and self.experiment.policy_of is None
        return self.plan.start_from if start else str(self.output / "policy")

    @property
    def stale(self) -> bool:
        """Whether the records were made with something else than what would be evaluated now."""
        held = provenance.header(self.records)
        if held is None:
            return False
        if (held.graph, held.tasks) != (self.experiment.graph, self.plan.tasks):
            return True
        there = self.policy == self.plan.start_from or (Path(self.policy) / "model.safetensors").is_file()
        return there and provenance.weights_at(self.policy) != held.weights

    @property
    def limit(self) -> int:
        """How many tasks it is measured on."""
        return self.experiment.limit or self.plan.limit

    @property
    def evaluated(self) -> bool:
        """Whether every task has its record, of the policy that lies there now."""
        return len({row["task"] for row in provenance.rows(self.records)}) >= self.limit and not self.stale

    def set_aside(self) -> Path:
        """Rename stale records, so that new ones can be made in their place."""
        return self.records.replace(self.records.with_suffix(".jsonl.old"))

    def commands(self) -> list[list[str]]:
        """What is left to be run, in order."""
        if self.evaluated:
            return []
        python, todo = [sys.executable, "-m"], []
        trained = self.output / "policy"
        if self.experiment.train is not None and not (trained / "model.safetensors").is_file():
            values = [f"{key}={json.dumps(value)}" for key, value in self.experiment.train.items()]
            resume = ["--resume"] if any((self.output / "checkpoints").glob("checkpoint-*")) else []
            values += [f"seed={self.seed}", f"output={self.output}", "held_out_limit=0"]
            todo.append([*python, "lensgraph.rl.train", "grpo", "--recipe", self.plan.recipe, *resume, *values])
        evaluation = ["lensgraph.rl", "evaluate", "--graph", self.experiment.graph, "--tasks", self.plan.tasks]
        evaluation += ["--limit", str(self.limit), "--records", str(self.records), f"policy.model={self.policy}"]
        return [*todo, [*python, *evaluation]]


def read(path: Path = PLAN) -> Plan:
    """The plan.

    Raises:
        ValueError: a table, the curve or an experiment names an experiment that the plan does not have.
    """
    plan = Plan.model_validate(yaml.safe_load(path.read_text("utf-8")))
    named = {name for names in plan.tables.values() for name in names} | set(plan.curve)
    named |= {one.policy_of for one in plan.experiments.values() if one.policy_of}
    if unknown := sorted(named - set(plan.experiments)):
        raise ValueError(f"{path.name}: no experiment {', '.join(unknown)}; there are {', '.join(plan.experiments)}")
    return plan


def jobs(plan: Plan, folder: Path, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Job]:
    """All jobs, those that others wait for first. What is not trained has one seed, because it is greedy."""
    chosen = [name for name in plan.experiments if not only or name in only]
    made = []
    for name in chosen:
        one = plan.experiments[name]
        own = plan.seeds[:1] if one.train is None and one.policy_of is None else one.seeds or plan.seeds
        made += [Job(name, seed, plan, folder) for seed in own if not seeds or seed in seeds]
    return sorted(made, key=lambda job: (job.experiment.policy_of is not None, job.seed))


def run(todo: Sequence[Job], workers: int, console: Console) -> int:
    """Run jobs, `workers` at a time; how many failed. The output of each is in `log.txt` beside its records."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    trained: dict[Path, threading.Event] = {job.output: threading.Event() for job in todo if job.experiment.train}

    def one(job: Job) -> bool:
        try:
            return steps(job)
        finally:
            if job.output in trained and job.experiment.train is not None:
                trained[job.output].set()

    def steps(job: Job) -> bool:
        if job.experiment.policy_of is not None and job.output in trained:
            trained[job.output].wait()
        job.records.parent.mkdir(parents=True, exist_ok=True)
        log, good = job.records.parent / "log.txt", True
        with log.open("a", encoding="utf-8") as out:
            for command in job.commands():
                if job.stale:  # also what a policy that was just trained anew leaves behind
                    told = job.set_aside()
                    console.print(f"{job.name} seed {job.seed}: records of another policy set aside as {told}")
                good = good and not subprocess.run(command, stdout=out, stderr=out, env=environment).returncode
        console.print(f"{job.name} seed {job.seed}: {'done' if good else f'failed, see {log}'}", highlight=False)
        return good

    with ThreadPoolExecutor(workers) as pool:
        return sum(not good for good in pool.map(one, todo))


def rows(plan: Plan, folder: Path) -> dict[str, Row]:
    """Figures of every experiment that has been evaluated with at least one seed."""
    found: dict[str, Row] = {}
    for name in plan.experiments:
        done = [job for job in jobs(plan, folder, [name]) if job.evaluated]
        if done:
            found[name] = row(name, [job.records for job in done])
    return found


def write(plan: Plan, folder: Path, out: Path | None, console: Console, *, search_free: float | None = None) -> None:
    """Print the tables; with `out` also write them there, with the figures as JSON and the curve as a picture.

    `search_free` puts below each table the same for questions of which this share needs no search.

    Raises:
        ValueError: the evaluations cannot be weighted.
    """
    found, parts = rows(plan, folder), []
    for title, names in plan.tables.items():
        shown = [found[name] for name in names if name in found]
        if shown:
            parts.append(f"### {title}\n\n{markdown(shown)}")
            if search_free is not None:
                parts.append(f"{caption(search_free)}:\n\n{weighted_markdown(shown, search_free)}")
    console.print("\n".join(parts), highlight=False, markup=False, soft_wrap=True)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    page = out / "README.md"
    if page.is_file():
        page.write_text(refreshed(page.read_text("utf-8"), "\n".join(parts)), "utf-8")
    else:
        page.write_text(f"{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}\n", "utf-8")
    figures: Mapping[str, Any] = {
        name: {
            **one.figures(),
            "against": {n: against(found[n], one) for n in found if n != name},
            **({} if search_free is None else {"weighted": _weighted(found, name, search_free)}),
        }
        for name, one in found.items()
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    curve = [found[name] for name in plan.curve if name in found]
    if curve:
        draw_curve(curve, out / "curve.png")


def _weighted(found: Mapping[str, Row], name: str, share: float) -> dict[str, Any]:
    one = found[name]
    held = {n: against(found[n], one, share) for n in found if n != name}
    return {"search_free": share, **one.weighted(share), "against": held}


def refreshed(page: str, tables: str) -> str:
    """The page with its tables replaced; the words around them stay.

    Raises:
        ValueError: the page has no place for tables.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}; put them where the tables shall stand")
    return f"{head}{BEGIN}\n\n{tables}\n{END}{tail}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 a run failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--plan", type=Path, default=PLAN, help="which experiments there are")
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
        plan = read(args.plan)
        if unknown := sorted(set(args.only) - set(plan.experiments)):
            raise ValueError(f"no experiment {', '.join(unknown)}; there are {', '.join(plan.experiments)}")
        if args.command == "table":
            write(plan, args.folder, args.out, console, search_free=args.search_free)
            return 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if run(jobs(plan, args.folder, args.only, args.seeds), args.jobs, console) else 0
