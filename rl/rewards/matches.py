"""The ways to judge an answer: one function each, and `MATCHES`, the table of them.

The recipe's `reward.match`, its error messages and its description derive from the table. A way is a function,
plain or async,

    (task: Task, answer: str | None, judge: Judge | None) -> bool | None

where None means that there is no verdict: the episode then has no reward.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lensgraph.rl.rewards.judge import Judge
from lensgraph.rl.tasks import Task
from lensgraph.rl.tasks.match import normalise


def exact(task: Task, answer: str | None, judge: Judge | None = None) -> bool:
    """An answer is right if it equals a gold after MMSearch-R1's normalisation."""
    return answer is not None and normalise(answer) in {normalise(gold) for gold in task.golds}


def tolerant(task: Task, answer: str | None, judge: Judge | None = None) -> bool:
    """Other units, roundings and spellings are right as well (`lensgraph.rl.tasks.match`)."""
    return task.correct(answer)


async def judged(task: Task, answer: str | None, judge: Judge | None) -> bool | None:
    """A chat model decides, the recipe's `judge`."""
    assert judge is not None  # see NEEDS_JUDGE
    return await judge.right(task.question, task.golds, answer)


MATCHES: dict[str, Callable[[Task, str | None, Judge | None], bool | Awaitable[bool | None] | None]] = {
    "exact": exact,
    "tolerant": tolerant,
    "judge": judged,
}
"""Name in a recipe -> the way to judge. A new way of this package is a function above and a row here."""
NEEDS_JUDGE = ("judge",)
"""Ways for which a recipe must name a `judge`."""
