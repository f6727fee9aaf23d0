"""Roll a policy out over tasks, and keep every trajectory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.agent.errors import UserError
from lensgraph.rl.rollout.episode import RolloutSetup, roll_all
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.tasks import Task


def record(store: TrajectoryStore, tasks: Sequence[Task], setup: RolloutSetup, rollouts: int, concurrent: int) -> int:
    """Roll every task out `rollouts` times into the store; returns how many trajectories were added.

    Those that the store already holds of this policy and graph are not rolled out again.

    Raises:
        ValueError: every rollout failed; the message gives the error of the first.
    """
    store.begin()  # before anything is spent
    here = (one for one in store if (one.policy, one.graph) == (setup.name, setup.graph) and one.error is None)
    held = {one.id for one in here} if store.path.is_file() else set()
    todo = [(task, n) for task in tasks for n in range(rollouts) if f"{task.id}#{n}" not in held]

    async def run() -> int:
        added, first = 0, ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("trajectories", total=len(todo))
            order, numbers = [task for task, _ in todo], [n for _, n in todo]
            async for _, made in roll_all(order, setup, concurrent=concurrent, numbers=numbers):
                first = first or made.trajectory.error or ""
                if made.trajectory.error is None:  # a failed one is tried again by the next run
                    store.append(made.trajectory, made.pictures)
                    added += 1
                progress.advance(bar)
        if todo and not added:
            raise UserError(f"every rollout failed; the first: {first}")
        return added

    return asyncio.run(run())
