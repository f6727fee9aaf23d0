"""The paired difference of two runs on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence

from lensgraph.tools.runtime.interval import interval

Spread = tuple[float, float, float]
"""Mean, and the lower and upper end of its 95 % interval."""


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Spread:
    """Mean of `second - first` over tasks with its 95 % bootstrap interval.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} values against {len(second)}; there must be as many, and at least one")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    return sum(differences) / len(differences), *interval(differences, seed=seed)
