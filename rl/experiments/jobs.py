"""Train and evaluate what a plan still misses.

An interrupted job goes on, and a finished one is not run again, so a plan may be run in any number of pieces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lensgraph.rl.evaluation import provenance
from lensgraph.rl.experiments.plan import Experiment, Plan


@dataclass(frozen=True)
class Job:
    """One experiment with one seed."""

    name: str
    """Name of the experiment."""
    seed: int
    """Seed of the training run."""
    plan: Plan
    """The plan that holds the experiment."""
    folder: Path
    """Folder of all runs."""

    @property
    def experiment(self) -> Experiment:
        """The experiment."""
        return self.plan.experiments[self.name]

    @property
    def output(self) -> Path:
        """Folder of the training run."""
        return self.folder / (self.experiment.policy_of or self.name) / str(self.seed)

    @property
    def records(self) -> Path:
        """File of the evaluation's records."""
        return self.folder / self.name / str(self.seed) / f"{self.experiment.graph}.jsonl"

    @property
    def policy(self) -> str:
        """Name or folder of the checkpoint to evaluate."""
        start = self.experiment.train is None and self.experiment.policy_of is None
        return self.plan.start_from if start else str(self.output / "policy")

    @property
    def stale(self) -> bool:
        """Whether the records were made with another graph, task set or policy than a new evaluation would use.

        Records that do not name their policy are taken as they are.
        """
        held = provenance.header(self.records)
        if held is None:
            return False
        if (held.graph, held.tasks) != (self.experiment.graph, self.plan.tasks):
            return True
        there = self.policy == self.plan.start_from or (Path(self.policy) / "model.safetensors").is_file()
        return there and provenance.weights_at(self.policy) != held.weights

    @property
    def limit(self) -> int:
        """Number of tasks to measure."""
        return self.experiment.limit or self.plan.limit

    @property
    def evaluated(self) -> bool:
        """Whether every task has its record, of the policy that lies there now."""
        return len({row["task"] for row in provenance.rows(self.records)}) >= self.limit and not self.stale

    def set_aside(self) -> Path:
        """Rename stale records, so that new ones can be made in their place."""
        return self.records.replace(self.records.with_suffix(".jsonl.old"))

    def commands(self) -> list[list[str]]:
        """Commands that are left to run, in order."""
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


def jobs(plan: Plan, folder: Path, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Job]:
    """All jobs of a plan, before those that wait for them.

    An experiment that trains nothing has one seed, because its evaluation is greedy.
    """
    chosen = [name for name in plan.experiments if not only or name in only]
    made = []
    for name in chosen:
        one = plan.experiments[name]
        own = plan.seeds[:1] if one.train is None and one.policy_of is None else one.seeds or plan.seeds
        made += [Job(name, seed, plan, folder) for seed in own if not seeds or seed in seeds]
    return sorted(made, key=lambda job: (job.experiment.policy_of is not None, job.seed))


def run_jobs(todo: Sequence[Job], workers: int, console: Console) -> int:
    """Run jobs, `workers` at a time; returns how many failed. A job's output goes to `log.txt` beside its records."""
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
                if job.stale:  # also after this very run trained the policy anew
                    console.print(
                        f"{job.name} seed {job.seed}: records of another policy set aside as {job.set_aside()}"
                    )
                good = good and not subprocess.run(command, stdout=out, stderr=out, env=environment).returncode
        console.print(f"{job.name} seed {job.seed}: {'done' if good else f'failed, see {log}'}", highlight=False)
        return good

    with ThreadPoolExecutor(workers) as pool:
        return sum(not good for good in pool.map(one, todo))
