"""One schema for every question, whatever data set it comes from.

Invariant: a task holds all that a rollout and a reward need (pictures, question, gold answers, tolerance); everything
else on it is for analysis and is never shown to the policy. Pictures are made when asked for, so that a list of ten
thousand tasks costs no memory.

`load("world/test")` gives the embedded world's tasks, `load("my.jsonl")` a person's own: one JSON object a line with
`question`, `answers` (or `answer`) and `images` (paths relative to the file).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensgraph.rl.tasks import match as matching
from lensgraph.tools.local.world import questions as world
from lensgraph.tools.local.world.relations import Tolerance
from lensgraph.tools.local.world.world_task import WorldTask

if TYPE_CHECKING:
    from PIL import Image

WORLD = tuple(f"world/{split}" for split in world.SIZES)
"""Names of the built-in task sets."""


class TaskError(ValueError):
    """A task set that cannot be loaded; the message names the value and the valid ones."""


@dataclass(frozen=True)
class Task:
    """One question."""

    id: str
    """Unique within its set."""
    question: str
    """Shown to the policy, verbatim."""
    images: tuple[Callable[[], Image.Image], ...] = field(repr=False)
    """Each call draws or opens one picture, RGB. May be empty: a question about no picture."""
    golds: tuple[str, ...]
    """Accepted answers, the preferred spelling first."""
    tolerance: Tolerance | None = None
    """How far a number may be off and in which unit it is; None: words must match."""
    family: str = ""
    """Kind of question, for tables; empty where the set names none."""
    knowledge: str = ""
    """`visible`, `known` or `unknown`: where the answer can come from without a search. Empty: not labelled."""
    split: str = ""
    """`train`, `validation` or `test`; empty for a person's own file."""
    source: str = ""
    """The name that was loaded."""
    world: WorldTask | None = field(default=None, repr=False)
    """The world's own record (entity, target, good and bad queries): for scripted demonstrations and analysis.
    None for other sets."""

    def pictures(self) -> list[Image.Image]:
        """The pictures, drawn or opened now."""
        return [image() for image in self.images]

    def correct(self, answer: str | None) -> bool:
        """Whether an answer is right."""
        return matching.match(answer, self.golds, self.tolerance)


def load(name: str, limit: int | None = None, *, family: str | None = None, seed: int = 0) -> list[Task]:
    """Load a set by name (`world/train`, `world/validation`, `world/test`) or a `.jsonl` file by path.

    `limit` takes the first tasks, which for the world keeps the mix of families; `family` keeps one family; `seed` remakes
    the world's tasks with other wordings and pictures.
    """
    if name in WORLD:
        try:
            rows = world.load(name.removeprefix("world/"), family=family, limit=limit, seed=seed)
        except ValueError as error:
            raise TaskError(str(error)) from None
        return [from_world(row, name) for row in rows]
    if name.endswith(".jsonl"):
        tasks = [task for task in _read(Path(name)) if family is None or task.family == family]
        return tasks[:limit]
    raise TaskError(f"No task set {name!r}. Use one of {', '.join(WORLD)}, or the path of a .jsonl file.")


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
    """The last pictures that were drawn: sibling rollouts ask for the same one at the same moment."""

    def __init__(self, kept: int = 64) -> None:
        self.kept = kept
        self._lock = threading.Lock()
        self._pictures: OrderedDict[int, tuple[WorldTask, Future[Image.Image]]] = OrderedDict()

    def of(self, row: WorldTask) -> Image.Image:
        """The task's picture, a copy of one's own."""
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


FIELDS = ("id", "question", "answer", "answers", "image", "images", "tolerance", "family", "knowledge", "split")
"""Keys that a line of a task file may have."""


def _read(path: Path) -> list[Task]:
    if not path.exists():
        raise TaskError(f"No task file {str(path)!r}. Use one of {', '.join(WORLD)}, or the path of a .jsonl file.")
    tasks = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            tasks.append(_task(line, f"{path.name}:{number}", path))
    if not tasks:
        raise TaskError(f"Task file {str(path)!r} holds no task; it needs one JSON object a line.")
    return tasks


def _task(line: str, where: str, path: Path) -> Task:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskError(f"{where}: not JSON ({error.msg}); each line is one JSON object.") from None
    if not isinstance(row, dict):
        raise TaskError(f"{where}: a {type(row).__name__}, not a JSON object.")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise TaskError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(FIELDS)}.")
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise TaskError(f"{where}: 'question' is {question!r}; it must be a text.")
    golds = _texts(row, "answer", "answers", where)
    if not golds:
        raise TaskError(f"{where}: no 'answers'; give at least one accepted answer.")
    images = []
    for image in _texts(row, "image", "images", where):
        file = (path.parent / image).resolve()
        if not file.is_file():
            raise TaskError(f"{where}: no image file {image!r} (looked in {str(path.parent)!r}).")
        images.append(partial(_open, file))
    return Task(
        id=str(row.get("id", where)),
        question=question,
        images=tuple(images),
        golds=tuple(golds),
        tolerance=row.get("tolerance"),
        family=str(row.get("family", "")),
        knowledge=str(row.get("knowledge", "")),
        split=str(row.get("split", "")),
        source=str(path),
    )


def _texts(row: dict[str, Any], one: str, many: str, where: str) -> list[str]:
    value = row.get(many, row.get(one, []))
    values: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TaskError(f"{where}: {many!r} is {value!r}; it must be a text or a list of texts.")
    return list(values)


def _open(file: Path) -> Image.Image:
    from lensgraph.tools import guard

    return guard.open_image(file.read_bytes())
