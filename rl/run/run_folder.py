"""The output folder of a training run: its checkpoints, its log, and the recipe that made them.

`begin` opens it, for a new run or for one that goes on.

Invariants: a checkpoint counts only once it is complete, so a run that was killed at any moment goes on from
the last complete one, or starts over; a run goes on only with values that draw the same data in the same
order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import Trainer, TrainerCallback

from lensgraph.rl.run import processes, trackers
from lensgraph.rl.run.base_recipes import RunRecipe
from lensgraph.rl.run.callbacks import StopAt, SummaryLog

RECIPE = "recipe.yaml"
"""In the output folder: the values that the run was last started with. `--recipe` takes this file as it is."""
DEVICES = "devices.txt"
"""In the output folder: the number of devices that each bring rows of their own to a step."""
_LAST = "trainer_state.json"
"""In a checkpoint: the file that transformers' trainer writes last, after weights, optimizer and scheduler."""


@dataclass(frozen=True)
class Run:
    """A start of a run: the place it goes on from, and the step it ends at."""

    output: Path
    """The run folder."""
    last: Path | None
    """Checkpoint to go on from; None: the run starts at step 0."""
    end: int
    """Step at which this start of the run ends."""

    @property
    def log(self) -> Path:
        """The run's metrics, one JSON object a line."""
        return self.output / "log.jsonl"

    def callbacks(self) -> list[TrainerCallback]:
        """The trainer's callbacks that write the log and end the run."""
        return [SummaryLog(self.log), StopAt(self.end)]

    def train(self, trainer: Trainer) -> None:
        """Train to the last step; a run that is already there only loads its weights."""
        if self.last is None or step_of(self.last) < self.end:
            trainer.train(resume_from_checkpoint=None if self.last is None else str(self.last))
        else:
            trainer._load_from_checkpoint(str(self.last))


def begin(
    recipe: RunRecipe,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    also: Sequence[str] = (),
    devices: int | None = None,
    dry_run: bool = False,
) -> Run:
    """Check that the run can start, and make its folder or find the checkpoint to go on from.

    Args:
        recipe: The run's recipe, which is written into the folder.
        resume: Go on from the last complete checkpoint, if there is one.
        max_steps: End before the recipe's last step; the schedule stays that of the whole run.
        also: Files that a checkpoint must hold to be complete, besides the trainer's own.
        devices: Number of devices that each bring rows of their own to a step, where the data depend on it.
        dry_run: Only check; the folder is neither read nor written.

    Raises:
        FileExistsError: the folder holds the checkpoints of another run.
        ValueError: `max_steps` is below 1, a tracker is not installed, or a resumed run would see other data.
    """
    end = last_step(recipe.steps, max_steps)
    trackers.check(recipe.trackers)
    if dry_run:
        return Run(recipe.output, None, end)
    last = whole_checkpoint(recipe.output, also) if resume else None
    fresh_output(recipe.output, resume=resume)
    remove_half_checkpoints(recipe.output, also)
    keep_recipe(recipe.output, recipe, resume=last is not None)
    if devices is not None:
        keep_devices(recipe.output, devices, resume=last is not None)
    return Run(recipe.output, last, end)


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
    """The newest complete checkpoint, or None. `also` names further files that it must hold."""
    found = sorted((output / "checkpoints").glob("checkpoint-*"), key=step_of)
    whole = [folder for folder in found if _is_whole(folder, also)]
    return whole[-1] if whole else None


def remove_half_checkpoints(output: Path, also: Sequence[str] = ()) -> None:
    """Remove the checkpoints that a kill cut off; process 0 does it.

    The trainer counts the checkpoints that it keeps, and would delete a complete one to make room for a half
    one.
    """
    if processes.rank():
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
        json.loads((folder / _LAST).read_text("utf-8"))  # transformers does not write it in one piece
    except ValueError:
        return False
    return True


def last_step(steps: int, max_steps: int | None) -> int:
    """The step at which this start of the run ends: the recipe's last one, or an earlier one.

    Raises:
        ValueError: `max_steps` leaves no step at all.
    """
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"--max-steps {max_steps}: a run takes at least one step; --dry-run trains nothing")
    return steps if max_steps is None else min(steps, max_steps)


def keep_recipe(output: Path, recipe: RunRecipe, *, resume: bool) -> None:
    """Write the recipe into the run folder, after comparing it with the one there if the run is resumed.

    All processes call it; process 0 writes.

    Raises:
        ValueError: a field of the recipe's `data_order` has another value than when the run began.
    """
    path, values = output / RECIPE, recipe.model_dump(mode="json")
    if resume and path.is_file():
        kept: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) or {}
        for name in recipe.data_order:
            # a field that is younger than the run was at its default then
            began = kept.get(name, type(recipe).model_fields[name].get_default(call_default_factory=True))
            if began != values[name]:
                raise ValueError(
                    f"{name}={values[name]!r} would change the order of the data of a run that was begun with "
                    f"{name}={began!r}; resume with that, or start anew in another output"
                )
    _write(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def keep_devices(output: Path, devices: int, *, resume: bool) -> None:
    """Write the number of devices into the run folder, after comparing it with the one there if the run is
    resumed.

    Raises:
        ValueError: the run was begun with another number, so that its steps had other rows.
    """
    path = output / DEVICES
    if resume and path.is_file() and path.read_text("utf-8").strip() != str(devices):
        raise ValueError(
            f"{devices} processes or GPUs would change the order of the data of a run that was begun with "
            f"{path.read_text('utf-8').strip()}; resume with as many, or start anew in another output"
        )
    _write(path, f"{devices}\n")


def _write(path: Path, text: str) -> None:
    """Write a file in one piece; process 0 does it."""
    if processes.rank():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(text, "utf-8")
    partial.replace(path)
