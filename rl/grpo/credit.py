"""Credit assignment: the advantage of each episode's tokens, or of each decision's.

With `trajectory`, every decision of an episode has the episode's advantage, as TRL computes it. With
`decision`, a decision has the advantage of its choice: the mean reward of the episodes of its group that
chose the same at the same step, minus the mean reward of all episodes of the group that reached the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from accelerate.utils import gather_object

from lensgraph.rl.grpo.training_metrics import Decision

Credit = Literal["trajectory", "decision"]
EPSILON = 1e-4  # added to the standard deviation of rewards, as in TRL, so that equal rewards divide by no zero


def zero_equal_groups(advantages: torch.Tensor, rewards: Sequence[float | None], size: int) -> None:
    """Set the advantages of every group with equal rewards to exactly zero, in place.

    TRL subtracts the group's mean and divides by its standard deviation; both carry rounding errors, so that
    equal rewards leave advantages of up to 6e-4, which would train on noise.

    Args:
        advantages: One value a row.
        rewards: The rows' rewards; None: the row has no reward.
        size: Rows of a group. Rows that are no whole groups (an evaluation may split them) are left alone.
    """
    if len(rewards) % size:
        return
    for start in range(0, len(rewards), size):
        if len(set(rewards[start : start + size]) - {None}) < 2:
            advantages[start : start + size] = 0.0


def by_decision(
    advantages: torch.Tensor, decisions: Sequence[Sequence[Decision]], width: int, size: int, scale: float | None
) -> torch.Tensor:
    """Advantages by token, (rows, `width`), in which a decision's tokens have the advantage of its choice.

    Args:
        advantages: TRL's, one a row; tokens outside of a decision keep them.
        decisions: The decisions of every row.
        width: Tokens of a completion.
        size: Rows of a group.
        scale: Divisor of the advantages; None: the standard deviation at each step.
    """
    tokens = advantages[:, None].repeat(1, width)
    for start in range(0, len(decisions), size):
        group = {row: [(d.kind, d.reward) for d in decisions[row]] for row in range(start, start + size)}
        for (row, number), advantage in decision_advantages(group, scale).items():
            decision = decisions[row][number]
            tokens[row, decision.start : decision.end] = advantage
    return tokens


def scale_of(scale_rewards: str, decisions: Sequence[Sequence[Decision]]) -> float | None:
    """The divisor of decisions' advantages under TRL's `scale_rewards`; None: each step's own standard
    deviation.

    `batch` takes the standard deviation over all processes, so all of them call this together.
    """
    if scale_rewards == "group":
        return None
    if scale_rewards == "none":
        return 1.0
    rewards = gather_object([row[0].reward for row in decisions if row and row[0].reward is not None])
    return float(torch.tensor(rewards).std()) if len(rewards) > 1 else 1.0


def decision_advantages(
    group: Mapping[int, Sequence[tuple[str, float | None]]], scale: float | None = None
) -> dict[tuple[int, int], float]:
    """Advantages of a group's decisions: {(row, number of the decision): advantage}.

    Args:
        group: By row, its decisions in order, each as (choice, reward of the episode). Decisions without a
            reward (None) count for nothing and get 0.
        scale: Divisor; None: the standard deviation of the rewards of the episodes that reached the step.
    """
    found: dict[tuple[int, int], float] = {}
    for number in range(max((len(row) for row in group.values()), default=0)):
        here = {row: chosen[number] for row, chosen in group.items() if len(chosen) > number}
        rewards = [reward for _, reward in here.values() if reward is not None]
        if not rewards:
            found |= dict.fromkeys(((row, number) for row in here), 0.0)
            continue
        mean = sum(rewards) / len(rewards)
        own = (sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1)) ** 0.5
        spread = own if scale is None else scale
        by_choice: defaultdict[str, list[float]] = defaultdict(list)
        for choice, reward in here.values():
            if reward is not None:
                by_choice[choice].append(reward)
        for row, (choice, reward) in here.items():
            same = by_choice[choice]
            found[row, number] = 0.0 if reward is None else (sum(same) / len(same) - mean) / (spread + EPSILON)
    return found
