"""Means for another mix of questions than the task set's own: a given share of them needs no search.

The saving of search on demand depends on the share of questions that need no search, and benchmarks differ in it. The
paper states the share for its search-balanced training set (`PAPER`), but not for its test sets.

A question whose answer is known or visible needs no search; the others do. Within each of the two kinds every
task has the same weight, and the kinds are weighted by their share. Intervals resample tasks within each kind,
so the mix is the same in every resample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.metrics import Spread
from lensgraph.tools.runtime.interval import percentiles

PAPER = 0.32
"""Share of FVQA-train: about 1,600 of 5,000 questions are search-free (MMSearch-R1, section 3)."""
FREE, REQUIRED = ("known", "visible"), ("unknown",)
"""Knowledge labels of the questions that need no search, and of those that do."""


def weighted(values: Mapping[str, float], labels: Mapping[str, str], share: float, *, seed: int = 0) -> Spread:
    """Mean over tasks, of which `share` need no search, with its 95 % bootstrap interval.

    `values` and `labels` (knowledge) are by task. For a paired difference, give the differences as values.

    Raises:
        ValueError: a task has no label, or a kind that the share asks for has no task.
    """
    kinds = kinds_of(values, labels, share)
    ends = percentiles(lambda rng: sum(part * _mean(rng.choices(kind, k=len(kind))) for part, kind in kinds), seed=seed)
    return sum(part * _mean(kind) for part, kind in kinds), *ends


def kinds_of(values: Mapping[str, float], labels: Mapping[str, str], share: float) -> list[tuple[float, list[float]]]:
    """(share, values) of each kind that has a share.

    Raises:
        ValueError: see `weighted`.
    """
    if not 0 <= share <= 1:
        raise UserError(f"the share of search-free questions is {share}; it must be between 0 and 1")
    unlabelled = sorted(task for task in values if labels[task] not in (*FREE, *REQUIRED))
    if unlabelled:
        valid = ", ".join((*FREE, *REQUIRED))
        raise UserError(f"task {unlabelled[0]} has no knowledge label; weighting needs {valid} on every task")
    found = []
    for part, names, kind in ((share, FREE, "search-free"), (1 - share, REQUIRED, "search-required")):
        chosen = [value for task, value in values.items() if labels[task] in names]
        if part and not chosen:
            raise UserError(f"there is no {kind} task to give a share of {part:g}; evaluate more tasks")
        if part:
            found.append((part, chosen))
    return found


def share_of(given: float | str | None) -> float | None:
    """The value of `--search-free`: a share, or the paper's where none was written."""
    return PAPER if isinstance(given, str) else given


def caption(share: float) -> str:
    """Caption of a weighted table."""
    return f"Weighted: {share:.0%} of questions need no search"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # resampling calls it thousands of times: statistics.mean takes 100x as long
