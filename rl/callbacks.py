"""What every training run here does besides training: its own log, and an early end with a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class SummaryLog(TrainerCallback):
    """Appends every log line to a JSONL file: the run's own record, whatever tracker is on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """One line a log event, with the step."""
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


class StopAt(TrainerCallback):
    """Ends a run early with a checkpoint, without touching the schedule of the whole run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop and save once the step is reached."""
        if state.global_step >= self.step:
            control.should_training_stop = control.should_save = True


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
