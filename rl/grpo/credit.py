"""Whose advantage a decision gets: its episode's, or that of its own choice. Knows choices and rewards; knows no model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

Credit = Literal["trajectory", "decision"]


def decision_advantages(
    group: Mapping[int, Sequence[tuple[str, float | None]]], scale: float | None = None
) -> dict[tuple[int, int], float]:
    """Advantages by decision: {(row, number of the decision): advantage} for rows of (choice, reward of the episode).

    At every step the group's episodes that got there are compared by what they chose: a choice is worth the mean reward
    of those that made it, its advantage is that minus the mean of all, over `scale` (None: the standard deviation of
    their rewards).
    Rows without a reward (None) take no part and get 0.
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
        worth: defaultdict[str, list[float]] = defaultdict(list)
        for choice, reward in here.values():
            if reward is not None:
                worth[choice].append(reward)
        for row, (choice, reward) in here.items():
            mine = worth[choice]
            found[row, number] = 0.0 if reward is None else (sum(mine) / len(mine) - mean) / (spread + 1e-4)
    return found
