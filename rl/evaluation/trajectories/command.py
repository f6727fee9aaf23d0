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
import sys
from pathlib import Path

from rich.console import Console

from lensgraph.agent.config import load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.graphs import table
from lensgraph.rl import recipes
from lensgraph.rl.evaluation.provenance import policy_name
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.evaluation.trajectories.by_policy import of_policy
from lensgraph.rl.evaluation.trajectories.export import export
from lensgraph.rl.evaluation.trajectories.roll_out import record
from lensgraph.rl.evaluation.trajectories.show_trajectory import show
from lensgraph.rl.evaluation.trajectories.stats import stats, tables
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rewards.reward_recipe import Rewarding
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.tasks import load_tasks
from lensgraph.tools.safety.one_line import one_line


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
    args = _parser().parse_args(argv)
    store, console = TrajectoryStore(args.folder), Console()
    try:
        if args.command == "record":
            console.print(f"{_record(args)} trajectories added to {args.folder}")
        elif args.command == "show":
            found = None
            for trajectory in of_policy(store, args.policy):
                if args.id is None or trajectory.id == args.id:
                    found = trajectory
            if found is None:
                raise ValueError(
                    f"no trajectory {args.id!r} in {args.folder}" if args.id else f"{args.folder} is empty"
                )
            show(found, console)
        elif args.command == "stats":
            figures = stats(of_policy(store, args.policy))
            if args.json:
                print(json.dumps(figures, indent=1))
            else:
                for shown in tables(figures):
                    console.print(shown)
        else:
            console.print(f"{export(store, args.out, right=args.right, policy=args.policy)} rows in {args.out}")
    except (OSError, ValueError) as error:
        print(one_line(error, 1_000), file=sys.stderr)
        return 2
    return 0


def _record(args: argparse.Namespace) -> int:
    """Record as the arguments say; returns how many trajectories were added."""
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
    return record(TrajectoryStore(args.folder), tasks, setup, args.rollouts, args.concurrent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl trajectories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="run a policy over tasks and keep every trajectory")
    recorder.add_argument("--out", type=Path, required=True, dest="folder", help="the store; goes on from it")
    recorder.add_argument("--graph", default="search_agent", help=table.HELP)
    recorder.add_argument("--tasks", default="world/train", help="a task set's name or a .jsonl file")
    recorder.add_argument("--limit", type=int, help="the first so many tasks")
    recorder.add_argument("--rollouts", type=int, default=1, help="trajectories of each task")
    recorder.add_argument("--temperature", type=float, default=1.0, help="of the sampling")
    recorder.add_argument("--concurrent", type=int, default=32, help="episodes at a time")
    recorder.add_argument("--recipe", default="world_grpo", help="the online recipe whose reward the episodes get")
    recorder.add_argument("--config", type=Path, help="a configuration file of the agent")
    recorder.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as policy.model=FOLDER")
    shower = commands.add_parser("show", help="read one trajectory")
    shower.add_argument("folder", type=Path)
    shower.add_argument("id", nargs="?", help="its id; left out: the last one")
    counter = commands.add_parser("stats", help="figures by node and decision")
    counter.add_argument("folder", type=Path)
    counter.add_argument("--json", action="store_true", help="print one JSON object")
    exporter = commands.add_parser(
        "export",
        help="training data for SFTTrainer",
        description="Train on it with SFTConfig(assistant_only_loss=True, max_length=None): the loss is then on the "
        "policy's own turns, and no row is cut inside a picture.",
    )
    exporter.add_argument("folder", type=Path)
    exporter.add_argument("out", type=Path, help="a .jsonl file (its pictures stay beside it) or a folder")
    for reader in (shower, counter, exporter):
        reader.add_argument("--policy", help="only trajectories of the policies whose name begins so")
    exporter.add_argument("--right", action="store_true", help="only episodes with a right answer")
    return parser
