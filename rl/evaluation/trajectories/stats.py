"""Figures over many trajectories: of the episodes, of every node, and of the policy's decisions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from lensgraph.agent.errors import UserError
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStep


def stats(trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """Figures of all episodes, by node, and of decisions by node and action.

    Raises:
        ValueError: there are no trajectories.
    """
    count, right, failed, searching = 0, 0, 0, 0
    rewards: list[float] = []
    stops: Counter[str] = Counter()
    nodes: defaultdict[str, list[TrajectoryStep]] = defaultdict(list)
    decisions: defaultdict[tuple[str, str], list[tuple[bool, float | None]]] = defaultdict(list)
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
                decisions[step.node, step.kind].append((trajectory.correct, total))
    if not count:
        raise UserError("no trajectories to count")
    by_node: dict[str, dict[str, Any]] = {}
    for (node, kind), found in sorted(decisions.items()):
        by_node.setdefault(node, {})[kind] = _decision(found)
    return {
        "episodes": count,
        "accuracy": right / count,
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "failed": failed,
        "searching_share": searching / count,
        "stop_reasons": dict(stops.most_common()),
        "nodes": {node: _node(steps, count) for node, steps in sorted(nodes.items())},
        "decisions": by_node,
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
    """The figures for the terminal: a table of nodes and a table of decisions."""
    reward = "-" if figures["reward"] is None else f"{figures['reward']:.3f}"
    nodes = Table(
        title=f"{figures['episodes']} episodes: accuracy {figures['accuracy']:.3f}, reward {reward}, "
        f"{figures['searching_share']:.3f} searched, {figures['failed']} failed"
    )
    for column in ("node", "visits an episode", "seconds a visit", "price a visit", "failed"):
        nodes.add_column(column, justify="left" if column == "node" else "right")
    for node, row in figures["nodes"].items():
        nodes.add_row(
            node, f"{row['visits_per_episode']:.2f}", f"{row['seconds']:.4f}", f"{row['price']:g}",
            f"{row['failed_share']:.3f}",
        )  # fmt: skip
    chosen = Table(title="decisions")
    for column in ("node", "action", "times", "accuracy of its episodes", "their reward"):
        chosen.add_column(column, justify="left" if column in ("node", "action") else "right")
    for node, kinds in figures["decisions"].items():
        for kind, row in kinds.items():
            earned = "-" if row["reward"] is None else f"{row['reward']:.3f}"
            chosen.add_row(node, kind, str(row["count"]), f"{row['accuracy']:.3f}", earned)
    return [nodes, chosen]
