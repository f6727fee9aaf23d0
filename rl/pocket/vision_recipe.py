"""The recipe of the vision tower's pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.run.base_recipes import RowsRecipe


class SightRecipe(RowsRecipe):
    """Every hyper-parameter of the vision tower's pretraining."""

    data_order: ClassVar[tuple[str, ...]] = ("seed", "batch", "size")

    output: Path = Path("runs/world_sight")
    """Folder for checkpoints, log and the finished tower (`tower/`), which the cold start takes as `sight=`."""
    size: PocketSize = PocketSize()
    """Size of the network that the tower belongs to."""
    batch: int = Field(default=32, ge=1)
    """Pictures a step on each device."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises to its peak."""
    decay_steps: int = 600
    """Steps of the cosine decay to zero at the end."""
