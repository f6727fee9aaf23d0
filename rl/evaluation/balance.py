"""`balance`: label which tasks need a search, by trying; and draw a training set that is balanced between the kinds.

    python -m lensgraph.rl balance --out runs/balance.jsonl --tasks world/train --limit 600

MMSearch-R1 (arXiv 2506.20670, section 3) rolls a policy out eight times a question. A question that is never answered
right is dropped; one that is ever answered right without a search is search-free; the others need the tools of their
right episodes: an image search, a text search, or both (mixed).

The embedded world's tasks are asked as in training: a share of their rollouts in other words (`--rephrase-share`), so
that a label does not depend on one wording. The labels that ship with the package (`world_balance`) were made with a
share of 0.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.agent.config import load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.pocket.rephrase import in_other_words
from lensgraph.rl.rollout.episode import RolloutSetup, roll_all
from lensgraph.rl.rollout.failures import ENOUGH, Failures, of_episode
from lensgraph.rl.rollout.trajectory import Trajectory
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task, load_tasks

Label = Literal["search_free", "image", "text", "mixed", "never_right"]


def label(episodes: Sequence[Trajectory]) -> Label:
    """The kind of search that a task needs, by its right episodes.

    Raises:
        UserError: there are no episodes.
    """
    episodes = [episode for episode in episodes if episode.error is None]
    if not episodes:
        raise UserError("a task needs at least one episode that did not fail to be labelled")
    right = [episode for episode in episodes if episode.correct]
    if not right:
        return "never_right"
    if any(not episode.calls() for episode in right):
        return "search_free"
    used = Counter("+".join(sorted(episode.calls())) for episode in right)
    kinds: dict[str, Label] = {"image_search": "image", "text_search": "text"}
    # on a tie the cheaper kind: a question that one search answers does not need two
    most = min(used, key=lambda name: (-used[name], len(name)))
    return kinds.get(most, "mixed")


def sample(rows: Sequence[Mapping[str, Any]], search_free_share: float, rng: random.Random) -> list[str]:
    """Task ids, shuffled, of the largest set in which `search_free_share` of the tasks need no search.

    The kinds of search stay as frequent as they are among the labelled tasks.

    Raises:
        UserError: a kind that the share asks for has no task.
    """
    free = [str(row["task"]) for row in rows if row["label"] == "search_free"]
    needed = [str(row["task"]) for row in rows if row["label"] in ("image", "text", "mixed")]
    if (search_free_share > 0 and not free) or (search_free_share < 1 and not needed):
        raise UserError(f"labels hold {len(free)} search-free tasks and {len(needed)} others; both kinds are needed")
    total = min(
        len(free) / search_free_share if search_free_share > 0 else float("inf"),
        len(needed) / (1 - search_free_share) if search_free_share < 1 else float("inf"),
    )
    kept = rng.sample(free, round(total * search_free_share)) + rng.sample(
        needed, round(total * (1 - search_free_share))
    )
    rng.shuffle(kept)
    return kept


def asked(task: Task, rollouts: int, rephrase_share: float) -> list[Task]:
    """The task once a rollout, a share in other words; the wordings depend on the task's id only."""
    rng = random.Random(f"balance/{task.id}")
    return [in_other_words(task, rng, rephrase_share) for _ in range(rollouts)]


async def _label_all(
    tasks: Sequence[Task],
    setup: RolloutSetup,
    rollouts: int,
    concurrent: int,
    out: Path,
    rephrase_share: float,
    max_failed_share: float,
) -> None:
    order = [one for task in tasks for one in asked(task, rollouts, rephrase_share)]
    numbers = [n for _ in tasks for n in range(rollouts)]
    found: defaultdict[str, list[Trajectory]] = defaultdict(list)
    failures = Failures()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("tasks", total=len(tasks))
        async for index, rollout in roll_all(order, setup, concurrent=concurrent, numbers=numbers):
            task = order[index]
            found[task.id].append(rollout.trajectory)
            failures.add(of_episode(rollout.trajectory))
            failures.check(max_failed_share, least=ENOUGH)
            if len(found[task.id]) < rollouts:
                continue
            episodes = [episode for episode in found.pop(task.id) if not of_episode(episode)]
            progress.advance(bar)
            if not episodes:  # it is tried again by the next run
                progress.console.print(f"{task.id}: every episode failed: {failures}")
                continue
            right = [episode for episode in episodes if episode.correct]
            row = {
                "task": task.id,
                "label": label(episodes),
                "right": len(right),
                "rollouts": len(episodes),
                "searches": sum(sum(episode.calls().values()) for episode in episodes) / len(episodes),
                "knowledge": task.knowledge,
                "rephrase_share": rephrase_share,
            }
            jsonl.append(out, row)
    failures.check(max_failed_share)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done."""
    config = batched(load_config(args.config, [*args.overrides, f"policy.temperature={args.temperature}"]))
    tasks = load_tasks(args.tasks, args.limit)
    done = {row["task"] for row in jsonl.rows(args.out)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    backends = Backends(Context(config=config))

    async def label_rest() -> None:
        setup = RolloutSetup(
            graph="search_agent",
            config=config,
            policy=await backends.policy(),
            dialect=backends.dialect,
            name=config.policy.model,
            temperature=args.temperature,
        )
        todo = [task for task in tasks if task.id not in done]
        await _label_all(
            todo, setup, args.rollouts, args.concurrent, args.out, args.rephrase_share, args.max_failed_share
        )

    asyncio.run(label_rest())
    rows = jsonl.rows(args.out)
    if not rows:
        raise UserError("no task could be labelled")
    for name, count in Counter(row["label"] for row in rows).most_common():
        print(f"{name:12} {count:6}  {count / len(rows):.3f}")
    return 0
