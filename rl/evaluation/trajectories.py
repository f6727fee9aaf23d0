"""`python -m lensgraph.rl trajectories`: look into the trajectories of a run, and turn them into training data.

    python -m lensgraph.rl trajectories record --out FOLDER --limit 9  run a policy over tasks and keep every trajectory
    python -m lensgraph.rl trajectories show FOLDER [ID]             read one in the terminal (the last one, unless named)
    python -m lensgraph.rl trajectories stats FOLDER                 what nodes and decisions did, cost and earned
    python -m lensgraph.rl trajectories export FOLDER OUT --right    for SFTTrainer: a .jsonl file, or a folder of a `datasets` dataset

An exported dataset has the columns `messages` and `images`, which TRL's SFTTrainer takes as they are: trajectories of a
large policy become the cold start of a small one. The loss is on the policy's own turns only with
`SFTConfig(assistant_only_loss=True, max_length=None)`; without it the trainer also learns to write what tools said.

One folder may hold several policies and graphs: `record` goes on with each by itself, and `--policy` picks one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lensgraph.agent.config import load as load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.graphs import table
from lensgraph.rl import recipes
from lensgraph.rl.evaluation.evaluate import batched
from lensgraph.rl.evaluation.provenance import policy_name
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rewards.recipe import Rewarding
from lensgraph.rl.rollout.episode import RolloutSetup, roll_all
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStep, TrajectoryStore
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task, load_tasks


def show(trajectory: Trajectory, console: Console) -> None:
    """One trajectory, turn by turn."""
    head = f"{trajectory.id}  {trajectory.graph} in {trajectory.dialect}  policy {trajectory.policy or '-'}"
    console.print(Panel(Text(f"{trajectory.question}\ngold: {' | '.join(trajectory.golds[:4])}"), title=head))
    for step in trajectory.steps:
        console.print(Text(_line(step), style="bold" if step.action else "dim"))
        if step.text:
            console.print(Text(f"    {step.text}"))
        for hit in step.hits or ():
            console.print(Text(f"    - {hit['title']}: {hit['snippet'][:120]}", style="dim"))
        if step.error:
            console.print(Text(f"    {step.error}", style="red"))
    verdict = "right" if trajectory.correct else "wrong"
    console.print(Text(f"answer: {trajectory.answer!r} ({verdict}, {trajectory.stop_reason or trajectory.error})"))
    sampled = sum(trajectory.mask)
    parts = ", ".join(f"{name} {value:.3f}" for name, value in (trajectory.reward or {}).items()) or "none"
    console.print(
        Text(
            f"reward: {parts}   tokens: {len(trajectory.ids)}, {sampled} sampled   pictures: {len(trajectory.pictures)}"
        )
    )


def _line(step: TrajectoryStep) -> str:
    where = f" box {tuple(step.crop['box'])}" if step.crop and step.crop.get("box") else ""
    what = f" {step.query!r}" if step.query else ""
    tokens = f"  tokens {step.tokens[0]}-{step.tokens[1]}" if step.tokens else ""
    edge = f" -> {step.edge}" if step.edge else ""
    return f"{step.turn}. {step.node}: {step.kind}{what}{where}{edge}  {step.seconds:.3f} s  {step.price:g}{tokens}"


def stats(trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """Figures of a run: of all episodes, by node, and of decisions by node and action.

    Raises:
        ValueError: there are no trajectories.
    """
    count, right, failed, searching = 0, 0, 0, 0
    rewards: list[float] = []
    stops: Counter[str] = Counter()
    nodes: defaultdict[str, list[TrajectoryStep]] = defaultdict(list)
    decisions: defaultdict[str, defaultdict[str, list[tuple[bool, float | None]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    edges: Counter[tuple[str, str]] = Counter()
    for trajectory in trajectories:
        count += 1
        right += trajectory.correct
        failed += trajectory.error is not None
        searching += bool(trajectory.calls())
        stops[trajectory.stop_reason or "failed"] += 1
        total = trajectory.reward["total"] if trajectory.reward else None
        if total is not None:
            rewards.append(total)
        for step in trajectory.steps:
            nodes[step.node].append(step)
            edges[step.node, step.edge or "end"] += 1
            if step.action is not None:
                decisions[step.node][step.kind].append((trajectory.correct, total))
    if not count:
        raise ValueError("no trajectories to count")
    return {
        "episodes": count,
        "accuracy": right / count,
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "failed": failed,
        "searching_share": searching / count,
        "stop_reasons": dict(stops.most_common()),
        "nodes": {node: _node(steps, count) for node, steps in sorted(nodes.items())},
        "decisions": {
            node: {kind: _decision(found) for kind, found in sorted(kinds.items())}
            for node, kinds in sorted(decisions.items())
        },
        "edges": {f"{a} -> {b}": n for (a, b), n in edges.most_common()},
    }


def _node(steps: list[TrajectoryStep], episodes: int) -> dict[str, float]:
    return {
        "visits_per_episode": len(steps) / episodes,
        "seconds": sum(step.seconds for step in steps) / len(steps),
        "price": sum(step.price for step in steps) / len(steps),
        "failed_share": sum(step.error is not None for step in steps) / len(steps),
    }


def _decision(found: list[tuple[bool, float | None]]) -> dict[str, Any]:
    rewards = [reward for _, reward in found if reward is not None]
    return {
        "count": len(found),
        "accuracy": sum(right for right, _ in found) / len(found),
        "reward": sum(rewards) / len(rewards) if rewards else None,
    }


def tables(figures: dict[str, Any]) -> list[Table]:
    """The figures for the terminal."""
    reward = "-" if figures["reward"] is None else f"{figures['reward']:.3f}"
    nodes = Table(
        title=f"{figures['episodes']} episodes: accuracy {figures['accuracy']:.3f}, reward {reward}, "
        f"{figures['searching_share']:.3f} searched, {figures['failed']} failed"
    )
    for column in ("node", "visits an episode", "seconds a visit", "price a visit", "failed"):
        nodes.add_column(column, justify="left" if column == "node" else "right")
    for node, row in figures["nodes"].items():
        nodes.add_row(
            node,
            f"{row['visits_per_episode']:.2f}",
            f"{row['seconds']:.4f}",
            f"{row['price']:g}",
            f"{row['failed_share']:.3f}",
        )
    chosen = Table(title="decisions")
    for column in ("node", "action", "times", "accuracy of its episodes", "their reward"):
        chosen.add_column(column, justify="left" if column in ("node", "action") else "right")
    for node, kinds in figures["decisions"].items():
        for kind, row in kinds.items():
            earned = "-" if row["reward"] is None else f"{row['reward']:.3f}"
            chosen.add_row(node, kind, str(row["count"]), f"{row['accuracy']:.3f}", earned)
    return [nodes, chosen]


def conversations(trajectories: Iterable[Trajectory], *, right: bool = False) -> Iterator[dict[str, Any]]:
    """Trajectories as chat rows: `messages` with image placeholders, and the ids of the `images`, in order.

    `right` keeps those with a right answer. What follows the policy's last turn is left out.
    """
    for trajectory in trajectories:
        if trajectory.error is not None or (right and not trajectory.correct):
            continue
        said = list(trajectory.messages)
        while said and said[-1].role != "assistant":
            said.pop()
        if not said:
            continue
        messages = [{"role": one.role, "content": [_placeholder(block) for block in one.blocks]} for one in said]
        yield {"messages": messages, "images": [picture for one in said for picture in one.pictures]}


def _placeholder(block: dict[str, str]) -> dict[str, str]:
    return {"type": "image"} if block["type"] == "image" else dict(block)


def of_policy(store: TrajectoryStore, policy: str | None) -> Iterator[Trajectory]:
    """Trajectories of the policies whose name begins so; None: of all.

    Raises:
        ValueError: the store has no such policy.
    """
    named: set[str] = set()
    found = False
    for trajectory in store:
        named.add(trajectory.policy)
        if policy is None or trajectory.policy.startswith(policy):
            found = True
            yield trajectory
    if policy is not None and not found:
        raise ValueError(f"no policy {policy!r} in {store.folder}; there are {', '.join(sorted(named))}")


def export(store: TrajectoryStore, out: Path, *, right: bool = False, policy: str | None = None) -> int:
    """Write the store as training data; how many rows.

    A path ending in `.jsonl` becomes that file, its pictures as files beside it in `images/`, named by absolute path, because
    a trainer looks for others in its own working folder; any other path becomes the folder of a `datasets` dataset with
    decoded pictures.

    Raises:
        FileExistsError: there is something at `out`.
        ValueError: no trajectory is fit for export.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; give a path that does not")
    rows = list(conversations(of_policy(store, policy), right=right))
    if not rows:
        raise ValueError("no trajectory to export" + (" has a right answer" if right else ""))
    if out.suffix == ".jsonl":
        folder = out.parent / "images"
        folder.mkdir(parents=True, exist_ok=True)
        for identity in {identity for row in rows for identity in row["images"]}:
            (folder / identity).write_bytes(store.picture(identity))
        with out.open("w", encoding="utf-8") as file:
            for row in rows:
                names = [str((folder / identity).resolve()) for identity in row["images"]]
                file.write(jsonl.line({**row, "images": names}))
        return len(rows)
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    features = Features(
        {
            "messages": List(
                {"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}
            ),
            "images": List(ImageFeature()),
        }
    )
    opened = [
        {
            "messages": [
                {"role": m["role"], "content": [{"type": c["type"], "text": c.get("text")} for c in m["content"]]}
                for m in row["messages"]
            ],
            "images": [Image.open(io.BytesIO(store.picture(identity))) for identity in row["images"]],
        }
        for row in rows
    ]
    Dataset.from_list(opened, features=features).save_to_disk(str(out))
    return len(rows)


def record(store: TrajectoryStore, tasks: Sequence[Task], setup: RolloutSetup, rollouts: int, concurrent: int) -> int:
    """Roll out every task `rollouts` times into the store, except what it already holds of this policy and graph; how many
    were added.

    Raises:
        ValueError: every rollout failed; the message tells why the first did.
    """
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
            raise ValueError(f"every rollout failed; the first: {first}")
        return added

    return asyncio.run(run())


def _record(args: argparse.Namespace) -> int:
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


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
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
        description="Train on it with SFTConfig(assistant_only_loss=True, max_length=None): the loss is then on the policy's own "
        "turns, and no row is cut inside a picture.",
    )
    exporter.add_argument("folder", type=Path)
    exporter.add_argument("out", type=Path, help="a .jsonl file (its pictures stay beside it) or a folder")
    for reader in (shower, counter, exporter):
        reader.add_argument("--policy", help="only trajectories of the policies whose name begins so")
    exporter.add_argument("--right", action="store_true", help="only episodes with a right answer")
    args = parser.parse_args(argv)
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
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
