"""The recipe that every stage of training builds on, and the arguments of transformers' trainer that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from lensgraph.rl.run import processes


class RunRecipe(BaseModel):
    """Fields of every stage. A stage adds its own fields, and gives these its defaults."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    data_order: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that decide which data a step sees; a resumed run must have the same values in them."""

    output: Path
    """Run folder: checkpoints, log and what was trained."""
    steps: int = Field(ge=1)
    """Optimiser steps of the whole run."""
    learning_rate: float
    """Peak learning rate, reached at the end of the warm-up."""
    warmup_steps: int
    """Steps over which the learning rate rises from zero."""
    trackers: list[str] = []
    """Where metrics go besides the log file: `trackio`, `tensorboard`, `wandb`, or another name that transformers knows."""
    seed: int = 0
    """Seed of everything random: data, sampling, new weights."""
    save_every: int = Field(ge=1)
    """Steps between two checkpoints to resume from."""


def trainer_arguments(recipe: RunRecipe) -> dict[str, Any]:
    """Arguments of `TrainingArguments` that all stages share, on this machine."""
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(recipe.output / "checkpoints"),
        "max_steps": recipe.steps,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup_steps,
        "seed": recipe.seed,
        "save_steps": recipe.save_every,
        "save_total_limit": 2,  # the newest, and the one before it in case a kill cuts the newest off
        "report_to": list(recipe.trackers),
        "use_cpu": not gpu,
        "ddp_backend": "gloo" if not gpu and processes.count() > 1 else None,
    }
