"""The recipes that every stage of training builds on, and the arguments of transformers' trainer that follow
from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from lensgraph.rl.network import optimizers
from lensgraph.rl.network.precision import autocasts
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
    """Trackers that receive the metrics, besides the log file: `trackio`, `tensorboard`, `wandb`, or other names that
    transformers knows."""
    seed: int = 0
    """Seed of everything random: data, sampling, new weights."""
    save_every: int = Field(ge=1)
    """Steps between two checkpoints to resume from."""
    trainer: dict[str, Any] = {}
    """Further options of TRL's GRPOConfig (`grpo`), SFTConfig (`sft`) or transformers' TrainingArguments (`sight`), by
    their own names; those that a field of the recipe or this package decides are refused."""


class RowsRecipe(RunRecipe):
    """Fields of the stages before online training, which learn from rows that are drawn by number."""

    steps: int = Field(default=3000, ge=1)
    """Optimiser steps of the whole run."""
    batch: int = Field(ge=1)
    """Rows a step on each device."""
    learning_rate: float = 1.5e-3
    """Peak learning rate, held from the end of the warm-up to the beginning of the decay."""
    decay_steps: int
    """Steps of the cosine decay to zero at the end. A run that must end early is resumed with fewer `steps`."""
    optimizer: optimizers.Name = "muon"
    """`muon` (matrices by Muon, the rest by AdamW) or `adamw`."""
    weight_decay: float = 0.05
    """Decoupled weight decay of every matrix and embedding, as in AdamW."""
    save_every: int = Field(default=500, ge=1)
    """Steps between two checkpoints to resume from."""
    log_every: int = 20
    """Steps between log lines."""


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


def rows_arguments(recipe: RowsRecipe) -> dict[str, Any]:
    """Arguments of `TrainingArguments` of the stages that learn from rows drawn by number."""
    return {
        **trainer_arguments(recipe),
        "per_device_train_batch_size": recipe.batch,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {
            "num_decay_steps": min(recipe.decay_steps, recipe.steps - 1),
            "decay_type": "cosine",
        },
        "bf16": autocasts(),
        "logging_steps": recipe.log_every,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",  # rows are random already, and row numbers decide the batches
    }
