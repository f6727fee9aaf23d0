"""What TRL forgets between two runs: where in its data a run was, and the rollouts that it had not used up.

A batch of rollouts serves several optimiser steps (`updates`, `num_iterations`), and the order of tasks is drawn anew every
epoch. A checkpoint in the middle of a batch therefore keeps the rest of it, one file a process; and a resumed run draws the
orders of the epochs that are behind it once more, so that it stands in the one it was in.

Invariant (tested): a run that was killed at any step and resumed trains on the rows that it would have trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler

Batches = Sequence[dict[str, Any]]
"""TRL's buffer: one mapping a forward pass."""


def keep(folder: Path, rank: int, batches: Batches) -> None:
    """Write this process's batches into a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = _file(folder, rank).with_suffix(".part")
    torch.save(list(batches), partial)
    partial.replace(_file(folder, rank))


def kept(folder: Path, rank: int, device: torch.device) -> list[dict[str, Any]] | None:
    """What `keep` wrote, on `device`; None: the checkpoint stands between two batches of rollouts."""
    path = _file(folder, rank)
    return torch.load(path, map_location=device, weights_only=True) if path.is_file() else None


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rollouts-{rank}.pt"


def wind(sampler: RepeatSampler, steps: int, steps_per_batch: int) -> int:
    """Draw the orders of the epochs that `steps` optimiser steps have used up; how many.

    `steps_per_batch`: optimiser steps on one batch of rollouts.
    """
    batches = sampler.num_samples // sampler.batch_size
    epochs = steps // max(1, batches * steps_per_batch)
    if sampler.shuffle:
        for _ in range(epochs):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
    return epochs
