"""Resuming: a resumed run stands where the run stood that wrote the checkpoint.

TRL forgets two things between two runs. A batch of rollouts serves several optimiser steps (`updates`,
`num_iterations`), so a checkpoint in the middle of a batch keeps the rest of it, one file a process. And the
order of tasks is drawn anew every epoch, so a resumed run draws the orders of past epochs once more. The
reward's state (a shadow price) is kept too.

Invariant (tested): a run that was killed at any step and resumed trains on the rows that it would have
trained on. Batches are cut by the run's layout (rows of a pass, passes, processes), which is kept beside
them: another layout is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, send_to_device
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.utils import RepeatSampler

from lensgraph.rl.grpo.generation import RolloutTrainer
from lensgraph.rl.pocket.pocket_network import restore
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.run import processes
from lensgraph.rl.run.run_folder import step_of

REWARD_STATE = "reward.json"
"""In a checkpoint: the state of the reward. It is written last of all, so it marks the checkpoint as complete."""

Batches = Sequence[dict[str, Any]]
"""TRL's buffer: one mapping a forward pass."""


class SaveRewardState(TrainerCallback):
    """Writes the reward's state into every checkpoint."""

    def __init__(self, reward: EpisodeReward) -> None:
        self.reward = reward

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write it beside the checkpoint's weights, in the main process."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            partial = folder / f"{REWARD_STATE}.part"
            partial.write_text(json.dumps(self.reward.state()), "utf-8")
            partial.replace(folder / REWARD_STATE)  # in one piece, because it marks the checkpoint as complete


class ResumableTrainer(RolloutTrainer):
    """GRPO over a graph, with checkpoints that hold all that decides the next step."""

    episode_reward: EpisodeReward | None = None
    """The reward whose state checkpoints hold."""
    _resumed = 0  # optimiser steps that were made before this start

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as TRL does; resumed, with the batch of rollouts that the checkpoint stands in."""
        try:
            if resume_from_checkpoint is True:
                # without a checkpoint, TRL itself raises
                resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True
            if isinstance(resume_from_checkpoint, str):
                folder = Path(resume_from_checkpoint)
                self._resumed = step_of(folder)
                self._step = self._resumed * self.args.gradient_accumulation_steps
                self._buffered_inputs = kept_batches(
                    folder, self.accelerator.process_index, self.accelerator.device, self._layout
                )
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.close_sampler()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.episode_reward is not None and (folder / REWARD_STATE).is_file():
            self.episode_reward.restore(json.loads((folder / REWARD_STATE).read_text("utf-8")))
        if self.rollouts.store is not None:
            self.rollouts.store.forget(step_of(folder), processes=processes.count())
        if not restore(self.model if model is None else model, folder):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        passes = step * self.args.gradient_accumulation_steps
        if passes % self._passes_per_batch and self._buffered_inputs is not None:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{step}"
            keep_batches(folder, self.accelerator.process_index, self._buffered_inputs, self._layout)
        self.accelerator.wait_for_everyone()  # a checkpoint is complete once all processes have written their part

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        wind(sampler, self._resumed * self.args.gradient_accumulation_steps, self._passes_per_batch)
        return sampler

    @property
    def _passes_per_batch(self) -> int:
        """Forward passes on one batch of rollouts."""
        return int(self.args.steps_per_generation * self.num_iterations)

    @property
    def _layout(self) -> dict[str, int]:
        """The numbers that decide how a batch of rollouts is cut, by the names of TRL and accelerate."""
        return {
            "per_device_train_batch_size": self.args.per_device_train_batch_size,
            "steps_per_generation": self.args.steps_per_generation,
            "gradient_accumulation_steps": self.args.gradient_accumulation_steps,
            "num_iterations": self.num_iterations,
            "num_generations": self.num_generations,
            "num_processes": self.accelerator.num_processes,
        }


def keep_batches(folder: Path, rank: int, batches: Batches, layout: Mapping[str, int]) -> None:
    """Write this process's batches into a checkpoint, with the numbers that decided how they were cut."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = _file(folder, rank).with_suffix(".part")
    torch.save({"layout": dict(layout), "batches": list(batches)}, partial)
    partial.replace(_file(folder, rank))


def kept_batches(
    folder: Path, rank: int, device: torch.device, layout: Mapping[str, int]
) -> list[dict[str, Any]] | None:
    """The batches that `keep_batches` wrote, on `device`; None: the checkpoint stands between two batches of
    rollouts.

    All processes call it together.

    Raises:
        ValueError: on every process, if the rollouts of one of them are missing or were cut by another layout.
    """
    path = _file(folder, rank)
    # not straight to the device: torch restores to no device "cpu:0"
    saved = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None
    found = saved["layout"] if isinstance(saved, dict) else {}
    other = [
        f"{name}={found.get(name, '?')}, not {value}" for name, value in layout.items() if found.get(name) != value
    ]
    told: list[tuple[bool, str]] = gather_object([(saved is not None, "; ".join(other))])
    if not any(has for has, _ in told):
        return None
    for process, (has, complaint) in enumerate(told):
        if has and complaint:
            raise ValueError(
                f"{folder} stands in the middle of a batch of rollouts that was made with {complaint}; "
                "resume with what it was made with, or start anew in another output"
            )
        if not has:
            raise ValueError(
                f"{folder} has no {_file(folder, process).name}; resume with the number of processes it had"
            )
    assert isinstance(saved, dict)
    return [send_to_device(batch, device) for batch in saved["batches"]]


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rollouts-{rank}.pt"


def wind(sampler: RepeatSampler, passes: int, passes_per_batch: int) -> int:
    """Draw the task orders of past epochs once more, and return the number of these epochs.

    Args:
        sampler: TRL's sampler, fresh.
        passes: Forward passes that the run has made.
        passes_per_batch: Forward passes on one batch of rollouts. An optimiser step may span several batches
            of rollouts, and a batch of rollouts several optimiser steps.
    """
    batches = sampler.num_samples // sampler.batch_size
    epochs = passes // max(1, batches * passes_per_batch)
    if sampler.shuffle:
        for _ in range(epochs):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
    return epochs
