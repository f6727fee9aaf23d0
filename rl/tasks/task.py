"""The record of a task.

Invariant: a task holds all that a rollout and a reward need (pictures, question, gold answers, tolerance);
its other fields are for analysis and are never shown to the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lensgraph.agent.errors import UserError
from lensgraph.rl.tasks import match as matching
from lensgraph.tools.local.world.facts.relations import Tolerance
from lensgraph.tools.local.world.questions.world_task import WorldTask

if TYPE_CHECKING:
    from PIL import Image


class TaskError(UserError):
    """A task set that cannot be loaded; the message names the value and the valid ones."""


@dataclass(frozen=True)
class Task:
    """One question."""

    id: str
    """Unique within its set."""
    question: str
    """Shown to the policy, verbatim."""
    images: tuple[Callable[[], Image.Image], ...] = field(repr=False)
    """Functions that each draw or open one RGB picture, so that ten thousand tasks cost no memory. May be
    empty."""
    golds: tuple[str, ...]
    """Accepted answers, the preferred spelling first."""
    tolerance: Tolerance | None = None
    """Unit of a numeric answer and its largest relative error; None: words must match."""
    family: str = ""
    """Kind of question, for tables; empty where the set names none."""
    knowledge: str = ""
    """Source of the answer without a search: `visible`, `known` or `unknown`; empty: not labelled."""
    split: str = ""
    """`train`, `validation` or `test`; empty for a person's own file."""
    source: str = ""
    """Name of the set that was loaded."""
    world: WorldTask | None = field(default=None, repr=False)
    """The embedded world's own record (entity, target, good and bad queries), for scripted demonstrations and
    analysis; None for other sets."""

    def pictures(self) -> list[Image.Image]:
        """Draw or open the pictures."""
        return [image() for image in self.images]

    def correct(self, answer: str | None) -> bool:
        """Whether an answer is right."""
        return matching.match(answer, self.golds, self.tolerance)
