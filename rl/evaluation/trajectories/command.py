"""`trajectories`: record a policy's trajectories, look into them, and turn them into training data.

    python -m lensgraph.rl trajectories record --out FOLDER --limit 9   roll a policy out and keep every trajectory
    python -m lensgraph.rl trajectories show FOLDER [ID]                read one (the last, unless named)
    python -m lensgraph.rl trajectories stats FOLDER                    figures by node and decision
    python -m lensgraph.rl trajectories export FOLDER OUT --right       training data for SFTTrainer

`export` writes a .jsonl file, or the folder of a `datasets` dataset, with the columns `messages` and `images`.
TRL's SFTTrainer takes both as they are, so trajectories of a large policy can start a small one. With
`SFTConfig(assistant_only_loss=True, max_length=None)` the loss is on the policy's own turns only; without it
the trainer also learns to write what tools answered.

One folder may hold several policies and graphs: `record` goes on with each by itself, and `--policy` picks one.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from rich.console import Console

from lensgraph.agent.config import load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.errors import UserError
from lensgraph.graphs import table
from lensgraph.rl import recipes
from lensgraph.rl.evaluation.provenance import policy_name
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.evaluation.trajectories import roll_out, show_trajectory
from lensgraph.rl.evaluation.trajectories.by_policy import of_policy
from lensgraph.rl.evaluation.trajectories.export import export as write
from lensgraph.rl.evaluation.trajectories.stats import stats as counted
from lensgraph.rl.evaluation.trajectories.stats import tables
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rewards.reward_recipe import Rewarding
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.tasks import load_tasks


def record(args: argparse.Namespace) -> int:
    """Roll a policy out and keep every trajectory; 0 done."""
    table.find(args.graph)
    config = batched(load_config(args.config, [*args.overrides, f"policy.temperature={args.temperature}"]))
    rewarding = recipes.read(args.recipe, Rewarding)
    backends = Backends(Context(config=config))
    setup = RolloutSetup(
        graph=args.graph,
        config=config,
        policy=asyncio.run(backends.policy()),
        dialect=backends.dialect,
        name=policy_name(config),
        temperature=args.temperature,
        reward=EpisodeReward.of(rewarding.reward, rewarding.judge),
    )
    tasks = load_tasks(args.tasks, args.limit)
    added = roll_out.record(TrajectoryStore(args.folder), tasks, setup, args.rollouts, args.concurrent)
    Console().print(f"{added} trajectories added to {args.folder}")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print the last trajectory, or the one that is named; 0 done."""
    found = None
    for trajectory in of_policy(TrajectoryStore(args.folder), args.policy):
        if args.id is None or trajectory.id == args.id:
            found = trajectory
    if found is None:
        raise UserError(f"no trajectory {args.id!r} in {args.folder}" if args.id else f"{args.folder} is empty")
    show_trajectory.show(found, Console())
    return 0


def stats(args: argparse.Namespace) -> int:
    """Print figures by node and decision; 0 done."""
    figures = counted(of_policy(TrajectoryStore(args.folder), args.policy))
    if args.json:
        print(json.dumps(figures, indent=1))
        return 0
    for shown in tables(figures):
        Console().print(shown)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write training data for SFTTrainer; 0 done."""
    count = write(TrajectoryStore(args.folder), args.out, right=args.right, policy=args.policy)
    Console().print(f"{count} rows in {args.out}")
    return 0
