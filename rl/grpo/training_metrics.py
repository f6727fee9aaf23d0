"""Metrics of a training step, computed from its rollouts over all processes and logged by the trainer.

Every process adds up its own episodes (`episodes`, `decisions`). The sums are gathered and added, and shares
and means are taken of the total, so the main process logs the whole step and not its own part. Wall-clock
seconds are those of the slowest process, because the others wait for it. The figures of an evaluation are rows of
`lensgraph.rl.evaluation.metrics`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object

from lensgraph.rl.rollout.episode import Rollout
from lensgraph.rl.rollout.failures import Failures, of_episode
from lensgraph.rl.tasks import Task

LAST_TURN = 16  # later turns are counted with this one, so that the number of a tracker's keys is bounded
SEARCHES = ("image_search", "text_search")
PARTS = ("match", "format", "searches", "cost")
"""Parts of a reward besides its total (`lensgraph.rl.rewards.formulas.Score`)."""
Sums = Mapping[str, float]
"""Sums that add up over processes, by name."""


@dataclass(frozen=True)
class Decision:
    """One sampled turn, with its borders in the completion."""

    node: str
    """The node that let the policy decide."""
    turn: int
    """Number of the policy's turn, from 1."""
    kind: str
    """Kind of the chosen action."""
    start: int
    """First sampled token, counted from the beginning of the completion."""
    end: int
    """One past the last sampled token."""
    reward: float | None
    """Reward of its episode; None: the episode has none."""


def decisions_of(rollout: Rollout) -> list[Decision]:
    """The rollout's sampled turns, in order."""
    trajectory = rollout.trajectory
    if not any(rollout.rendered.mask):
        return []
    border = rollout.rendered.mask.index(1)
    return [
        Decision(
            step.node, step.turn, step.kind, step.tokens[0] - border, step.tokens[1] - border, trajectory.total_reward
        )
        for step in trajectory.decisions
        if step.tokens is not None
    ]


def episodes(made: Sequence[Rollout]) -> dict[str, float]:
    """The sums of this process's episodes."""
    sums: Counter[str] = Counter()
    for rollout in made:
        trajectory, calls = rollout.trajectory, rollout.trajectory.calls()
        sums["episodes"] += 1
        sums["accuracy"] += trajectory.correct
        sums["failed"] += trajectory.error is not None
        sums["searching"] += bool(calls)
        sums["searches"] += sum(calls.values())
        for node in SEARCHES:
            sums[f"searches/{node}"] += calls.get(node, 0)
        # masked: it has no tokens to learn from, and its reward stays in the mean of its group
        sums["without_ids"] += trajectory.error is None and bool(trajectory.decisions) and not trajectory.ids
        sums["turns"] += len(trajectory.decisions)
        sums["malformed_turns"] += sum("malformed" in step.kind for step in trajectory.decisions)
        sums["completions/mean_length"] += sum(trajectory.mask)
        for step in trajectory.steps:
            waited = "policy" if step.action is not None else "tools"
            sums[f"seconds/{waited}_per_episode"] += step.seconds  # type: ignore[assignment]
        if trajectory.reward is not None:
            sums["rewarded"] += 1
            for part in PARTS:
                sums[f"reward/{part}"] += trajectory.reward.get(part, 0.0)  # type: ignore[assignment]
    return dict(sums)


def decisions(
    found: Sequence[Sequence[Decision]], output: Mapping[str, Any], *, by_row: bool = False
) -> dict[str, float]:
    """The sums of this process's decisions, by node, turn and kind.

    For each: its `count`, the sum of its `advantage`, its `tokens` in the loss, and its `pull` (|advantage| a
    token).

    Args:
        found: The decisions of every row.
        output: The batch, with masks and advantages.
        by_row: The loss takes the mean of each row's own mean, so a token of a long row pulls less.
    """
    sums: dict[str, float] = {}
    mask, advantages = output["completion_mask"] * output["tool_mask"], output["advantages"]
    for row, made in enumerate(found):
        weight = 1 / max(1.0, float(mask[row].sum())) if by_row else 1.0
        for one in made:
            advantage = float(advantages[row] if advantages.dim() == 1 else advantages[row, one.start])
            tokens = float(mask[row, one.start : one.end].sum())
            choice = f"{one.node}/turn_{min(one.turn, LAST_TURN)}/{one.kind}"
            pull = abs(advantage) * tokens * weight
            for part, value in (("count", 1.0), ("advantage", advantage), ("tokens", tokens), ("pull", pull)):
                sums[f"{choice}/{part}"] = sums.get(f"{choice}/{part}", 0.0) + value
    return sums


def added(sums: Sums) -> dict[str, float]:
    """Sums over all processes; every process gets them."""
    return total(gather_object([dict(sums)]))


def failures(made: Sequence[Rollout], *, judged: bool) -> Failures:
    """The failed episodes of a step, over all processes; `judged`: a judge is asked."""
    found = Failures()
    for episode in gather_object([of_episode(rollout.trajectory, judged=judged) for rollout in made]):
        found.add(episode)
    return found


def distance(found: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Sum, number and largest of |delta log p|, in nats, over the tokens that the loss counts, as a row (1, 3).

    Args:
        found: The trainer's log-probabilities (rows, completion tokens) under the weights that sampled.
        inputs: The batch, with the sampler's as `recorded_logps`.
    """
    counted = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
    away = (found.detach().float() - inputs["recorded_logps"]).abs()[counted]
    most = away.max() if len(away) else away.sum()
    return torch.stack([away.sum(), counted.sum().float(), most])[None]


def pictures(
    made: Sequence[Rollout], tasks: Mapping[str, Task], output: Mapping[str, Any], kept: int = 0
) -> dict[str, float]:
    """Sums for the metrics `pictures` and `pictures/unseen`: pictures of the batch, episodes, and those that went blind.
    `kept` are the pictures that the trainer keeps beside the batch.

    Raises:
        ValueError: the batch lacks pictures that the policy saw; TRL drops all of a batch where one does not fit its tokens.
    """
    seen = sum(len(rollout.rendered.pixels) for rollout in made)
    there = sum(output.get("num_images") or ()) if "pixel_values" in output else kept
    if there != seen:
        raise ValueError(
            f"pictures: the policy saw {seen} in this batch, and the training batch holds {there}; the update would be blind"
        )
    asked = [one for one in made if any(one.rendered.mask) and tasks[one.trajectory.task].images]
    blind = sum(not rollout.rendered.pixels for rollout in asked)
    return {"pictures": seen, "rows": len(made), "asked": len(asked), "blind": blind}


def slowest(seconds: float) -> float:
    """The seconds of the slowest process."""
    return max(gather_object([seconds]))


def total(parts: Sequence[Sums]) -> dict[str, float]:
    """Sums added up, name by name."""
    return {
        name: sum(part.get(name, 0.0) for part in parts) for name in sorted({name for part in parts for name in part})
    }


def of_episodes(sums: Sums) -> dict[str, float]:
    """Metrics of a step from the sums of `episodes`: means an episode, malformed turns as a share of turns,
    and the parts of the reward as means over the episodes that have one.

    `accuracy` is always by the task's own tolerance; `reward/match` is what the run's own rule took for right.
    """
    count = sums["episodes"]
    every = [
        "accuracy", "searches", *(f"searches/{node}" for node in SEARCHES), "searching", "turns", "failed", "without_ids",
        "completions/mean_length", "seconds/policy_per_episode", "seconds/tools_per_episode",
    ]  # fmt: skip
    return {
        **{name: sums.get(name, 0.0) / count for name in every},
        "malformed_turns": sums.get("malformed_turns", 0.0) / max(1.0, sums.get("turns", 0.0)),
        **{
            f"reward/{part}": sums.get(f"reward/{part}", 0.0) / sums["rewarded"]
            for part in PARTS
            if sums.get("rewarded")
        },
    }


def of_decisions(sums: Sums) -> dict[str, float]:
    """Metrics of a step from the sums of `decisions`: the choices at every decision point.

    `decisions/NODE/KIND/...` counts all turns of a node, `decisions/NODE/turn_N/KIND/...` one turn. Each has
    the `share` of the kind there (1 over all kinds), its mean `advantage`, and two shares of the whole step:
    of the tokens in the loss (`token_share`), and of |advantage| times tokens (`loss_share`; 0 for all if no
    row has an advantage), which leaves out the effect of the clip and of the KL term.
    """
    counts: Counter[str] = Counter()
    there: Counter[str] = Counter()
    advantages: defaultdict[str, float] = defaultdict(float)
    tokens: defaultdict[str, float] = defaultdict(float)
    pulls: defaultdict[str, float] = defaultdict(float)
    in_loss = pulled = 0.0
    for choice in (name.removesuffix("/count") for name in sums if name.endswith("/count")):
        node, turn, kind = choice.split("/")
        in_loss += sums[f"{choice}/tokens"]
        pulled += sums[f"{choice}/pull"]
        for point in (node, f"{node}/{turn}"):
            counts[f"{point}/{kind}"] += int(sums[f"{choice}/count"])
            there[point] += int(sums[f"{choice}/count"])
            advantages[f"{point}/{kind}"] += sums[f"{choice}/advantage"]
            tokens[f"{point}/{kind}"] += sums[f"{choice}/tokens"]
            pulls[f"{point}/{kind}"] += sums[f"{choice}/pull"]
    made = {}
    for name, count in counts.items():
        made[f"decisions/{name}/share"] = count / there[name.rpartition("/")[0]]
        made[f"decisions/{name}/advantage"] = advantages[name] / count
        made[f"decisions/{name}/token_share"] = tokens[name] / max(1.0, in_loss)
        made[f"decisions/{name}/loss_share"] = pulls[name] / pulled if pulled else 0.0
    return made
