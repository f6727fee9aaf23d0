"""Tasks: questions with pictures and gold answers, in one schema whatever data set they come from.

`load_tasks("world/test")` gives the embedded world's tasks (`lensgraph.rl.tasks.world`),
`load_tasks("my.jsonl")` a person's own (`lensgraph.rl.tasks.task_file` has the format).
`lensgraph.rl.tasks.match` decides if an answer is right.
"""

from __future__ import annotations

from lensgraph.rl.tasks.task import Task, TaskError
from lensgraph.rl.tasks.task_file import read_file
from lensgraph.rl.tasks.world import WORLD, from_world, world_tasks

__all__ = ["WORLD", "Task", "TaskError", "from_world", "load_tasks"]


def load_tasks(name: str, limit: int | None = None, *, family: str | None = None, seed: int = 0) -> list[Task]:
    """Load a task set.

    Args:
        name: `world/train`, `world/validation`, `world/test`, or the path of a `.jsonl` file.
        limit: Only the first tasks; those of the world keep its mix of families.
        family: Only the tasks of one family.
        seed: Makes the world's tasks anew, with other wordings and pictures.

    Raises:
        TaskError: the set, the family or a line of the file is not valid; the message names the valid ones.
    """
    if name in WORLD:
        return world_tasks(name, limit, family, seed)
    valid = f"Use one of {', '.join(WORLD)}, or the path of a .jsonl file."
    if not name.endswith(".jsonl"):
        raise TaskError(f"No task set {name!r}. {valid}")
    try:
        tasks = read_file(name)
    except FileNotFoundError:
        raise TaskError(f"No task file {name!r}. {valid}") from None
    return [task for task in tasks if family is None or task.family == family][:limit]
