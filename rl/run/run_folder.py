"""The output folder of a training run: its checkpoints, and the recipe that made them.

Invariants: a checkpoint counts only once it was written to its end, so a run that was killed at any moment goes on from the
last whole one, or begins again; a run goes on only with values that draw the same data in the same order.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

RECIPE = "recipe.yaml"
"""In the output folder: the values that the run was last started with. `--recipe` takes it as it is."""
DEVICES = "devices.txt"
"""In the output folder of a run in which every device brings rows of its own: how many there are."""
_LAST = "trainer_state.json"
"""In a checkpoint: what the trainer writes last, behind weights, optimizer and scheduler, whoever keeps those."""


def fresh_output(folder: Path, *, resume: bool) -> None:
    """Make a run's output folder.

    Raises:
        FileExistsError: it holds the checkpoints of another run, and this one does not go on from them.
    """
    if not resume and any((folder / "checkpoints").glob("checkpoint-*")):
        raise FileExistsError(
            f"output={folder} holds checkpoints; go on from them with --resume, or name another output"
        )
    folder.mkdir(parents=True, exist_ok=True)


def whole_checkpoint(output: Path, also: Sequence[str] = ()) -> Path | None:
    """The newest checkpoint that was written to its end; None: there is none. `also`: further files that it must hold."""
    found = sorted((output / "checkpoints").glob("checkpoint-*"), key=step_of)
    whole = [folder for folder in found if _is_whole(folder, also)]
    return whole[-1] if whole else None


def remove_half_checkpoints(output: Path, also: Sequence[str] = ()) -> None:
    """Remove the checkpoints that a kill cut off: the trainer would count them among those that it keeps, and remove a whole one
    for a half one. The first process does it; others do nothing."""
    if os.environ.get("RANK", "0") != "0":
        return
    for folder in (output / "checkpoints").glob("checkpoint-*"):
        if not _is_whole(folder, also):
            shutil.rmtree(folder)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(folder: Path, also: Sequence[str]) -> bool:
    if not all((folder / name).is_file() for name in (_LAST, *also)):
        return False
    try:
        json.loads((folder / _LAST).read_text("utf-8"))  # it is not written in one piece
    except ValueError:
        return False
    return True


def last_step(steps: int, max_steps: int | None) -> int:
    """The step at which this start of the run ends: the recipe's last, or an earlier one.

    Raises:
        ValueError: there would be no step at all.
    """
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"--max-steps {max_steps}: a run takes at least one step; --dry-run trains nothing")
    return steps if max_steps is None else min(steps, max_steps)


def keep_recipe(output: Path, recipe: BaseModel, order: Sequence[str], *, resume: bool) -> None:
    """Write the recipe beside the run's checkpoints; a run that goes on is first held against what is there.

    `order` names the fields that decide which data come when. All processes call it; the first one writes.

    Raises:
        ValueError: the run would go on with another value of one of them.
    """
    path, values = output / RECIPE, recipe.model_dump(mode="json")
    if resume and path.is_file():
        kept: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) or {}
        for name in order:
            # a field that is younger than the run was at its default then
            began = kept.get(name, type(recipe).model_fields[name].get_default(call_default_factory=True))
            if began != values[name]:
                raise ValueError(
                    f"{name}={values[name]!r} would change the order of the data of a run that was begun with "
                    f"{name}={began!r}; resume with that, or start anew in another output"
                )
    if os.environ.get("RANK", "0") == "0":
        output.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "utf-8")
        partial.replace(path)


def keep_devices(output: Path, devices: int, *, resume: bool) -> None:
    """Note how many devices share a step of which each brings its own rows; a run that goes on is first held against it.

    Raises:
        ValueError: the run was begun with another number, so that a step had other rows.
    """
    path = output / DEVICES
    if resume and path.is_file() and path.read_text("utf-8").strip() != str(devices):
        raise ValueError(
            f"{devices} processes or GPUs would change the order of the data of a run that was begun with "
            f"{path.read_text('utf-8').strip()}; resume with as many, or start anew in another output"
        )
    if os.environ.get("RANK", "0") == "0":
        partial = path.with_suffix(".part")
        partial.write_text(f"{devices}\n", "utf-8")
        partial.replace(path)
