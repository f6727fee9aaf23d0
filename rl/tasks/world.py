"""The embedded world's tasks in the common schema."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from lensgraph.rl.tasks.task import Task, TaskError
from lensgraph.tools.local.world.questions import splits
from lensgraph.tools.local.world.questions.world_task import WorldTask

if TYPE_CHECKING:
    from PIL import Image

WORLD = tuple(f"world/{split}" for split in splits.SIZES)
"""Names of the world's task sets."""
KEPT = 64  # pictures that `Drawings` holds: sibling rollouts ask for the same one at the same moment


def world_tasks(name: str, limit: int | None, family: str | None, seed: int) -> list[Task]:
    """The tasks of one of the sets in `WORLD`; the other arguments are those of `load_tasks`.

    Raises:
        TaskError: the family or the limit is not valid.
    """
    try:
        rows = splits.load_split(name.removeprefix("world/"), family=family, limit=limit, seed=seed)
    except ValueError as error:
        raise TaskError(str(error)) from None
    return [from_world(row, name) for row in rows]


def from_world(row: WorldTask, source: str = "world") -> Task:
    """A world task in the common schema."""
    return Task(
        id=row.id,
        question=row.question,
        images=(partial(DRAWINGS.of, row),),
        golds=row.golds,
        tolerance=row.tolerance,
        family=row.family,
        knowledge=row.knowledge,
        split=row.split,
        source=source,
        world=row,
    )


class Drawings:
    """The last pictures that were drawn, each drawn once however many threads ask for it."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._lock = threading.Lock()
        self._pictures: OrderedDict[int, tuple[WorldTask, Future[Image.Image]]] = OrderedDict()

    def of(self, row: WorldTask) -> Image.Image:
        """A copy of the task's picture."""
        with self._lock:
            # the entry holds the task, so its identity is not given to another
            found = self._pictures.get(id(row))
            mine = found is None
            if found is None:
                found = self._pictures[id(row)] = row, Future()
                while len(self._pictures) > self.kept:
                    self._pictures.popitem(last=False)
        if mine:
            try:
                found[1].set_result(row.render())
            except BaseException as error:
                found[1].set_exception(error)
        return found[1].result().copy()


DRAWINGS = Drawings()
