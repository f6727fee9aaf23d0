"""Tasks in a file of one's own: one JSON object a line.

    {"question": "Which colour?", "answers": ["red", "crimson"], "images": ["red.png"], "family": "colour"}
    {"question": "How long is it?", "answer": "10 km", "tolerance": {"relative": 0.1, "unit": "km"}}

`question` and at least one answer are needed. Images are paths relative to the file; there may be none. `id`,
`family`, `knowledge` and `split` are for tables, see `Task`. An unknown key is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensgraph.rl.tasks.task import Task, TaskError

if TYPE_CHECKING:
    from PIL import Image

FIELDS = ("id", "question", "answer", "answers", "image", "images", "tolerance", "family", "knowledge", "split")
"""Keys that a line of a task file may have."""


def read_file(name: str) -> list[Task]:
    """Read the tasks of a `.jsonl` file.

    Raises:
        FileNotFoundError: there is no such file.
        TaskError: the file is empty, or a line of it is no valid task; the message names the line.
    """
    path = Path(name)
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
