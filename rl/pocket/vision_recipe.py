"""The recipe of the vision tower's pretraining."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lensgraph.rl.network import optimizers
from lensgraph.rl.pocket.network import PocketSize

ORDER = ("seed", "batch", "size")
"""Recipe fields that decide which picture comes when; a resumed run must keep them."""


class SightRecipe(BaseModel):
    """Every hyper-parameter of the vision tower's pretraining."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    output: Path = Path("runs/world_sight")
    """Folder for checkpoints, log and the finished tower (`tower/`), which the cold start takes as `sight=`."""
    size: PocketSize = PocketSize()
    """Size of the network that the tower belongs to."""
    steps: int = Field(default=3000, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=32, ge=1)
    """Pictures a step on each device."""
    learning_rate: float = 1.5e-3
    """Peak learning rate, held from the end of the warm-up to the beginning of the decay."""
    warmup_steps: int = 100
    """Steps to reach the peak."""
    decay_steps: int = 600
    """Steps of the cosine decay to zero at the end."""
    optimizer: optimizers.Name = "muon"
    """`muon` (matrices by Muon, the rest by AdamW) or `adamw`."""
    weight_decay: float = 0.05
    """Decoupled weight decay of every matrix, as in AdamW."""
    seed: int = 0
    """Seed of the tower and the scenes."""
    save_every: int = 500
    """Steps between checkpoints to resume from."""
    log_every: int = 20
    """Steps between log lines."""
