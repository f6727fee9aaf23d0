"""Figures for another mix of questions than the task set's own: so many that need no search, so many that do.

How much searching on demand saves depends on how many questions need no search, and benchmarks differ in that. The paper
gives no such share for its test sets; for its search-balanced training set it does (`PAPER`).

Every task of a kind counts the same, and the kinds count by their share. Intervals resample tasks within each kind, so the
mix is the same in every resample. Answers that are known or in sight need no search; the others do.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence

from lensgraph.rl.evaluation.evaluate import RESAMPLES

PAPER = 0.32
"""FVQA-train: about 1,600 of 5,000 questions are search-free (MMSearch-R1, section 3)."""
FREE, REQUIRED = ("known", "visible"), ("unknown",)
"""Knowledge labels of the two kinds."""

Spread = tuple[float, float, float]
"""Mean, low, high."""


def weighted(values: Mapping[str, float], labels: Mapping[str, str], share: float, *, seed: int = 0) -> Spread:
    """Mean over tasks, of which `share` need no search, with its 95 % bootstrap interval; `labels` are knowledge by task.

    For a paired difference, give the differences.

    Raises:
        ValueError: a task has no label, or a kind that the share asks for has no task.
    """
    kinds = kinds_of(values, labels, share)
    rng = random.Random(seed)
    means = sorted(sum(part * _mean(rng.choices(kind, k=len(kind))) for part, kind in kinds) for _ in range(RESAMPLES))
    middle = sum(part * _mean(kind) for part, kind in kinds)
    return middle, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def kinds_of(values: Mapping[str, float], labels: Mapping[str, str], share: float) -> list[tuple[float, list[float]]]:
    """(share, values) of each kind that has a share.

    Raises:
        ValueError: see `weighted`.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of search-free questions is {share}; it must be between 0 and 1")
    unlabelled = sorted(task for task in values if labels[task] not in (*FREE, *REQUIRED))
    if unlabelled:
        raise ValueError(
            f"task {unlabelled[0]} has no knowledge label; weighting needs {', '.join((*FREE, *REQUIRED))} on every task"
        )
    found = []
    for part, names, kind in ((share, FREE, "search-free"), (1 - share, REQUIRED, "search-required")):
        chosen = [value for task, value in values.items() if labels[task] in names]
        if part and not chosen:
            raise ValueError(f"there is no {kind} task to give a share of {part:g}; evaluate more tasks")
        if part:
            found.append((part, chosen))
    return found


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option of commands that print tables."""
    parser.add_argument(
        "--search-free", type=float, nargs="?", const=PAPER, metavar="SHARE",
        help="also tables in which this share of questions needs no search; without a value the paper's "
        f"training mix, {PAPER}",
    )  # fmt: skip


def caption(share: float) -> str:
    """What stands above a weighted table."""
    return f"Weighted: {share:.0%} of questions need no search"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
