"""Callbacks of a training run: its own log, a printed line a step, alarms, and an early end with a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

ROUNDING = 0.1
"""Mean |delta log p|, in nats, between sampler and trainer that bfloat16 explains."""
ALARMS = {
    "delta_logp/mean": (
        ROUNDING, "mean |delta log p| between sampler and trainer is {:.3f} nats, more than rounding explains",
    ),
    "pictures/unseen": (0.0, "{:.2f} of the episodes whose task has pictures had none in the policy's prompt"),
    "failures": (0.0, "{:.2f} of the episodes failed for no fault of the policy"),
}  # fmt: skip
"""Metric of a step -> the value above which it is told, and the words for it."""


class SummaryLog(TrainerCallback):
    """Appends every log line to a JSONL file: the run's own record, whatever trackers there are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append the metrics with their step, in the main process."""
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


class StepLine(TrainerCallback):
    """Prints one line a step: reward, accuracy, searches, malformed turns, failures and seconds.

    The accuracy is by the reward's own rule (a judge's, where it asks one). The seconds of policy and tools
    are wall-clock seconds in which at least one episode waited for them.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Print the step's line, in the main process."""
        logs = logs or {}
        if not state.is_world_process_zero or "accuracy" not in logs:  # another pass over the same rollouts
            return
        earned = logs.get("reward")
        reward = "none" if earned is None else f"{earned:.3f}"
        seconds = {name: logs.get(f"seconds/{name}", 0.0) for name in ("rollout", "policy", "tools", "update")}
        self.console.print(
            f"step {state.global_step:4}/{state.max_steps}  reward {reward}  "
            f"accuracy {logs.get('reward/match', logs['accuracy']):.3f}  "
            f"searches {logs['searches']:.2f}  malformed {logs['malformed_turns']:.3f}  failed {logs['failed']:.2f}  "
            f"seconds: rollout {seconds['rollout']:.1f} (policy {seconds['policy']:.2f}, tools {seconds['tools']:.2f}), "
            f"update {seconds['update']:.2f}"
            + (f"  refilled with {logs['refill/episodes']:.2f} of a batch more" if "refill/episodes" in logs else ""),
            highlight=False,
        )


class Alarms(TrainerCallback):
    """Tells of a step whose checks are off, and of the tools that failed in it."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Print a line for every alarm, in the main process."""
        if not state.is_world_process_zero:
            return
        logs = logs or {}
        for name, (limit, says) in ALARMS.items():
            if logs.get(name, 0.0) > limit:
                kinds = [f"{key.partition('/')[2]} {logs[key]:.2f}" for key in logs if key.startswith(f"{name}/")]
                told = says.format(logs[name]) + (f": {', '.join(kinds)}" if kinds else "")
                self.console.print(f"ALARM step {state.global_step}: {told}", style="bold red", highlight=False)
