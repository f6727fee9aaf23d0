"""Pretrain the vision tower on labelled scenes: `python -m rl.train sight`, before the language model is trained.

The few answer tokens of a dialogue teach an untrained tower next to nothing. Here linear read-outs on the tower's own
output tokens learn the labels of `lensgraph.rl.pocket.vision_targets`: of every token, and of the tokens' mean. The
tower is kept, and the read-outs are thrown away.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from lensgraph.rl.network import optimizers
from lensgraph.rl.network.collate import IGNORE
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.pocket.pocket_network import PocketSize, vision_config
from lensgraph.rl.pocket.vision_recipe import SightRecipe
from lensgraph.rl.pocket.vision_targets import LabelledPictures, collate
from lensgraph.rl.run import processes, trainer_options
from lensgraph.rl.run.base_recipes import rows_arguments
from lensgraph.rl.run.run_folder import begin

SHARES: dict[str, float] = {
    "entity": 1.0, "sort": 0.5, "colour": 0.3, "background": 0.5, "items": 0.5, "flags": 0.5, "things": 0.5,
}  # fmt: skip
"""Weight of each label's cross-entropy in the loss."""
PICTURES = 4
"""Pictures of a dry run."""


class Sight(nn.Module):
    """The tower with a linear read-out for every label."""

    def __init__(self, tower: Qwen2_5_VisionTransformerPretrainedModel, classes: dict[str, int]) -> None:
        super().__init__()
        self.tower = tower
        self.read = nn.ModuleDict(
            {f"{name}_head": nn.Linear(tower.config.out_hidden_size, n) for name, n in classes.items()}
        )

    def forward(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, **rest: torch.Tensor) -> dict[str, Any]:
        """The weighted sum of cross-entropies (nats) as `loss`, and each label's share of right classes."""
        layout = {name.removeprefix("image_"): value for name, value in rest.items() if name.startswith("image_")}
        tokens = self.tower(pixel_values, grid_thw=image_grid_thw, **layout).pooler_output.float()
        lengths = image_grid_thw.prod(-1) // self.tower.config.spatial_merge_size**2
        owner = torch.repeat_interleave(torch.arange(len(lengths), device=tokens.device), lengths)
        mean = tokens.new_zeros(len(lengths), tokens.shape[-1]).index_add(0, owner, tokens) / lengths[:, None]
        out: dict[str, Any] = {"loss": tokens.new_zeros(())}
        for name, weight in SHARES.items():
            labels = rest[f"labels_{name}"]
            # the language model can average tokens by attention, so labels of the whole picture are read from the mean
            logits = self.read[f"{name}_head"](mean if labels.shape[0] == len(lengths) else tokens)
            counted = labels != IGNORE
            out["loss"] = out["loss"] + weight * functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE)
            out[name] = (logits.argmax(-1) == labels)[counted].float().mean().detach()
        return out


class SightTrainer(Trainer):
    """Logs each label's share of right classes beside the loss."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted sum of cross-entropies (nats)."""
        out = model(**inputs)
        for name in SHARES:
            self._right.setdefault(name, []).append(float(out[name]))
        return (out["loss"], out) if return_outputs else out["loss"]

    @cached_property
    def _right(self) -> dict[str, list[float]]:
        return {}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means since the last line."""
        means = {name: sum(values) / len(values) for name, values in self._right.items() if values}
        self._right.clear()
        super().log({**logs, **means}, *args, **kwargs)


def new_tower(size: PocketSize) -> Qwen2_5_VisionTransformerPretrainedModel:
    """A freshly initialised vision tower."""
    tower = Qwen2_5_VisionTransformerPretrainedModel(vision_config(size))
    batch_pictures(tower)
    return tower


def train(
    recipe: SightRecipe, *, resume: bool = False, max_steps: int | None = None, dry_run: bool = False
) -> Path | None:
    """Run the recipe; returns the folder of the finished tower, or None after a dry run, which writes nothing.

    Raises:
        FileExistsError: `output` holds another run.
        ValueError: `max_steps` is below 1, or a resumed run would see other pictures.
    """
    trainer_options.check(TrainingArguments, recipe)
    devices = processes.devices()
    run = begin(recipe, resume=resume, max_steps=max_steps, devices=devices, dry_run=dry_run)
    torch.manual_seed(recipe.seed)
    labelled = LabelledPictures(recipe.size, recipe.seed)
    tower = new_tower(recipe.size)
    model = Sight(tower, labelled.classes())
    if dry_run:
        with torch.no_grad():
            loss = model(**collate(tower.config, [labelled.picture(number) for number in range(PICTURES)]))["loss"]
        Console(stderr=True).print(
            f"dry run: {PICTURES} pictures, a label for every token of the tower, loss {float(loss):.3f}; nothing was trained",
            highlight=False,
        )
        return None
    dataset = Dataset.from_dict({"number": range(recipe.steps * recipe.batch * devices)}).with_transform(
        lambda rows: {"labelled": [labelled.picture(number) for number in rows["number"]]}
    )
    trainer = SightTrainer(
        model=model,
        args=trainer_options.build(TrainingArguments, recipe, rows_arguments(recipe)),
        train_dataset=dataset,
        data_collator=lambda rows: collate(tower.config, [row["labelled"] for row in rows]),
        optimizers=(
            optimizers.build(
                model.named_parameters(),
                name=recipe.optimizer,
                learning_rate=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
            ),
            None,
        ),
        callbacks=run.callbacks(),
    )
    run.train(trainer)
    if trainer.is_world_process_zero():
        tower.save_pretrained(recipe.output / "tower")
    return recipe.output / "tower"
