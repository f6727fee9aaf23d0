"""The ways to judge an answer: one row of `MATCHES` for each.

The recipe's `reward.match`, its error messages and its description derive from the table. A way is a
function, plain or async,

    (task: Task, answer: str | None, judge: Judge | None) -> bool | None

None means that there is no verdict: the episode then has no reward.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lensgraph.rl.rewards import choice
from lensgraph.rl.rewards.judge import Judge
from lensgraph.rl.tasks import Task
from lensgraph.rl.tasks.match import normalise

Verdict = bool | None


@dataclass(frozen=True)
class Match:
    """A way to judge an answer."""

    judged: Callable[[Task, str | None, Judge | None], Verdict | Awaitable[Verdict]]
    """The verdict on an answer to a task."""
    summary: str = ""
    """One phrase for the description of `reward.match`."""
    needs_judge: bool = False
    """The recipe must name a `judge`."""

    async def right(self, task: Task, answer: str | None, judge: Judge | None = None) -> bool | None:
        """Whether the answer is right; None: there is no verdict."""
        said = self.judged(task, answer, judge)
        return await said if inspect.isawaitable(said) else said


def find_match(name: str) -> Match:
    """The way to judge answers that a recipe names.

    Raises:
        ValueError: there is no such way; the message lists the valid ones.
    """
    found = choice.find("reward.match", name, MATCHES)
    return found if isinstance(found, Match) else Match(found)


def exact(task: Task, answer: str | None, judge: Judge | None = None) -> bool:
    """Whether the answer equals a gold after MMSearch-R1's normalisation."""
    return answer is not None and normalise(answer) in {normalise(gold) for gold in task.golds}


def tolerant(task: Task, answer: str | None, judge: Judge | None = None) -> bool:
    """Whether the answer is right by the task's own rules (`lensgraph.rl.tasks.match`)."""
    return task.correct(answer)


async def judged(task: Task, answer: str | None, judge: Judge | None) -> bool | None:
    """Whether the judge calls the answer right."""
    assert judge is not None  # the row says that it is needed
    return await judge.right(task.question, task.golds, answer)


MATCHES: dict[str, Match] = {
    "exact": Match(exact, "an answer is right if it equals a gold after MMSearch-R1's normalisation"),
    "tolerant": Match(tolerant, "other units, roundings and spellings are right as well (`lensgraph.rl.tasks.match`)"),
    "judge": Match(judged, "a chat model decides, the recipe's `judge`", needs_judge=True),
}
"""Name in a recipe -> the way to judge answers. A new way of this package is one row here."""
