"""What TRL forgets between two runs: where in its data a run was, and the rollouts that it had not used up.

A batch of rollouts serves several optimiser steps (`updates`, `num_iterations`), and the order of tasks is drawn anew every
epoch. A checkpoint in the middle of a batch therefore keeps the rest of it, one file a process; and a resumed run draws the
orders of the epochs that are behind it once more, so that it stands in the one it was in.

Invariant (tested): a run that was killed at any step and resumed trains on the rows that it would have trained on. Batches
are cut by the run's layout (rows of a pass, passes, processes), which is kept beside them: another layout is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, send_to_device
from trl.trainer.utils import RepeatSampler

Batches = Sequence[dict[str, Any]]
"""TRL's buffer: one mapping a forward pass."""


def keep(folder: Path, rank: int, batches: Batches, layout: Mapping[str, int]) -> None:
    """Write this process's batches into a checkpoint, with the numbers that decided how they were cut."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = _file(folder, rank).with_suffix(".part")
    torch.save({"layout": dict(layout), "batches": list(batches)}, partial)
    partial.replace(_file(folder, rank))


def kept(folder: Path, rank: int, device: torch.device, layout: Mapping[str, int]) -> list[dict[str, Any]] | None:
    """What `keep` wrote, on `device`; None: the checkpoint stands between two batches of rollouts.

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
    """Draw the orders of the epochs that `passes` forward passes have used up; how many.

    `passes_per_batch`: forward passes on one batch of rollouts. There may be several batches of rollouts in one optimiser
    step, and the other way round.
    """
    batches = sampler.num_samples // sampler.batch_size
    epochs = passes // max(1, batches * passes_per_batch)
    if sampler.shuffle:
        for _ in range(epochs):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
    return epochs
