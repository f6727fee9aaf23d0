"""The bootstrap interval of every printed figure: one rule, one number of resamples."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

RESAMPLES = 2_000  # resamples of a bootstrap: each 2.5 % tail then holds 50 means


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `values`; (nan, nan) if there are none."""
    if not values:
        return float("nan"), float("nan")
    return percentiles(lambda rng: sum(rng.choices(values, k=len(values))) / len(values), seed=seed)


def percentiles(resampled: Callable[[random.Random], float], *, seed: int = 0) -> tuple[float, float]:
    """2.5th and 97.5th percentile of a figure that `resampled` draws `RESAMPLES` times."""
    rng = random.Random(seed)
    found = sorted(resampled(rng) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]
