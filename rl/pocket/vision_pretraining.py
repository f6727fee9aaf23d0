"""Give the vision tower eyes before the language: supervised training on scenes that describe themselves.

A tower from nothing learns next to nothing from a few answer tokens a dialogue. But a scene knows what is in it, so
every visual token can be told what it should see: which entity covers it, of which sort, in which colour; and their
mean, how many items there are and on which background. The read-outs are linear on the very vectors that the language
model gets, and are thrown away afterwards. Only training entities and the drawings that training may see take part.

    python -m rl.train sight
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image, ImageEnhance
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from lensgraph.agent.policy.qwen.processor import patches_of
from lensgraph.rl.network import optimizers
from lensgraph.rl.network.collate import IGNORE, vision_layout
from lensgraph.rl.network.precision import autocasts
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.pocket import network
from lensgraph.rl.run.callbacks import StopAt, SummaryLog
from lensgraph.rl.run.run_folder import (
    fresh_output,
    keep_devices,
    keep_recipe,
    last_step,
    remove_half_checkpoints,
    step_of,
    whole_checkpoint,
)
from lensgraph.tools.local.world import entities, pictures, scenes
from lensgraph.tools.local.world.entities import Entity
from lensgraph.tools.local.world.questions import sort_of
from lensgraph.tools.local.world.scenes import Scene

SORTS = ("nothing", "flag", "animal", "plant", "food", "vehicle", "building", "object")
COLOURS = tuple(scenes.BACKGROUNDS)
MOST_ITEMS = 6
SHARES: dict[str, float] = {
    "entity": 1.0, "sort": 0.5, "colour": 0.3, "background": 0.5, "items": 0.5, "flags": 0.5, "things": 0.5,
}  # fmt: skip
"""Weight of each read-out in the loss. The first three are asked of every token, the others of their mean."""
ORDER = ("seed", "batch", "size")
"""Recipe fields that decide which picture comes when."""


class SightRecipe(BaseModel):
    """Everything that decides how the vision tower is trained."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    output: Path = Path("runs/world_sight")
    """Checkpoints, log and the finished tower (`tower/`), which the cold start takes as `sight=`."""
    size: network.PocketSize = network.PocketSize()
    """The network that the tower belongs to."""
    steps: int = Field(default=3000, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=32, ge=1)
    """Pictures a step on each device."""
    learning_rate: float = 1.5e-3
    """Held from the end of the warm-up to the beginning of the decay."""
    warmup_steps: int = 100
    """Steps to reach it."""
    decay_steps: int = 600
    """Steps at the end over which it falls to zero by a cosine."""
    optimizer: optimizers.Name = "muon"
    """`muon` (matrices by Muon, the rest by AdamW) or `adamw`."""
    weight_decay: float = 0.05
    """On every matrix."""
    seed: int = 0
    """Of the tower and the scenes."""
    save_every: int = 500
    """Steps between checkpoints to resume from."""
    log_every: int = 20
    """Steps between log lines."""


@dataclass(frozen=True)
class Seen:
    """A picture, and what there is to see in it."""

    values: Any
    """(patches, pixels of a patch), float32."""
    grid: tuple[int, int, int]
    """(time, height, width) in patches."""
    tokens: dict[str, list[int]]
    """`entity`, `sort`, `colour`: a class per visual token, or IGNORE."""
    whole: dict[str, int]
    """`background`, `items`, `flags`, `things`: a class of the picture."""


class Views:
    """Draws training pictures by number, from training entities and the drawings that training may see."""

    def __init__(self, size: network.PocketSize, seed: int) -> None:
        self.processor, self.seed = network.build_picture_processor(size), seed
        self.cast = [e for e in entities.select(split="train") if self.artists(e)]
        self.number = {entity.id: n for n, entity in enumerate(self.cast)}
        self.flags = [e for e in self.cast if e.kind == "flag"]
        self.things = [e for e in self.cast if e.kind == "thing"]
        self.known = [e for e in self.cast if e.known]

    @staticmethod
    def artists(entity: Entity) -> list[str]:
        """Renditions of an entity that training may see."""
        found = (*pictures.TRAIN_QUERIES[entity.kind], *pictures.INDEXED[entity.kind])
        return [artist for artist in found if f"{artist}/{entity.id}" in scenes.pixels()]

    def view(self, number: int) -> Seen:
        """Training picture `number`: half of them of one item, as most questions are."""
        rng = random.Random(f"{self.seed}/sight/{number}")
        count = 1 if rng.random() < 0.5 else rng.randint(2, MOST_ITEMS)
        share = rng.choice((0.25, 0.5, 0.75))
        if count == 1:
            cast = [
                rng.choice(self.known if rng.random() < 0.3 else self.flags if rng.random() < 0.55 else self.things)
            ]
        else:
            cast = [rng.choice(self.flags if rng.random() < share else self.things) for _ in range(count)]
        drawn = [(entity.id, rng.choice(self.artists(entity))) for entity in cast]
        scale = rng.choice(((0.8, 1.0), (0.55, 1.0)))
        scene = scenes.compose(drawn, rng, augment=rng.random() < 0.7, scale=scale)
        return self.seen(scene, shaken(scene.render(), rng) if rng.random() < 0.5 else scene.render())

    def seen(self, scene: Scene, picture: Image.Image) -> Seen:
        """The patches of a scene's picture, with the classes of every token."""
        values, grid = patches_of(self.processor, picture)
        rows, columns = grid[1] // self.processor.merge_size, grid[2] // self.processor.merge_size
        tokens = {name: [IGNORE] * (rows * columns) for name in ("entity", "colour")}
        tokens["sort"] = [0] * (rows * columns)
        for item in scene.items:
            entity = entities.get(item.entity_id)
            sort, colour = sort_of(entity), scenes.pixels()[f"{item.rendition}/{item.entity_id}"].colour
            for cell in covered(item.box, scene.width, scene.height, rows, columns):
                tokens["entity"][cell] = self.number.get(entity.id, IGNORE)
                tokens["sort"][cell] = SORTS.index(sort) if sort else IGNORE
                tokens["colour"][cell] = COLOURS.index(colour) if colour in COLOURS else IGNORE
        flags = sum(item.is_flag for item in scene.items)
        whole = {
            "background": COLOURS.index(scene.background),
            "items": len(scene.items), "flags": flags, "things": len(scene.items) - flags,
        }  # fmt: skip
        return Seen(values, grid, tokens, whole)

    def classes(self) -> dict[str, int]:
        """How many classes each read-out tells apart."""
        counts = dict.fromkeys(("items", "flags", "things"), MOST_ITEMS + 1)
        return {
            "entity": len(self.cast),
            "sort": len(SORTS),
            "colour": len(COLOURS),
            "background": len(COLOURS),
            **counts,
        }


def shaken(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture a little softer or sharper and a little tilted in tone: drawings differ by artist in just that."""
    picture = ImageEnhance.Sharpness(picture).enhance(rng.uniform(0.2, 1.8))
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Color):
        picture = enhancer(picture).enhance(rng.uniform(0.85, 1.15))
    return picture


def covered(box: Sequence[int], width: int, height: int, rows: int, columns: int) -> set[int]:
    """Tokens whose middle lies in a box, and the one that holds the middle of the box."""
    left, top, right, bottom = box
    cells = {
        row * columns + column
        for row in range(rows)
        for column in range(columns)
        if left <= (column + 0.5) / columns * width < right and top <= (row + 0.5) / rows * height < bottom
    }
    middle = int((top + bottom) / 2 / height * rows) * columns + int((left + right) / 2 / width * columns)
    return cells | {middle}


def collate(config: Any, views: Iterable[Seen]) -> dict[str, torch.Tensor]:
    """Pictures of any shape as one batch of the vision tower, with the classes as labels."""
    views = list(views)
    batch = {"pixel_values": torch.cat([torch.from_numpy(view.values) for view in views])}
    batch |= vision_layout(torch.tensor([view.grid for view in views]), config)
    for name in ("entity", "sort", "colour"):
        batch[f"labels_{name}"] = torch.tensor([label for view in views for label in view.tokens[name]])
    for name in ("background", "items", "flags", "things"):
        batch[f"labels_{name}"] = torch.tensor([view.whole[name] for view in views])
    return batch


class Sight(nn.Module):
    """The tower with its linear read-outs."""

    def __init__(self, tower: Qwen2_5_VisionTransformerPretrainedModel, classes: dict[str, int]) -> None:
        super().__init__()
        self.tower = tower
        self.read = nn.ModuleDict(
            {f"{name}_head": nn.Linear(tower.config.out_hidden_size, n) for name, n in classes.items()}
        )

    def forward(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, **rest: torch.Tensor) -> dict[str, Any]:
        """The weighted loss (nats) and the share of right classes per read-out."""
        layout = {name.removeprefix("image_"): value for name, value in rest.items() if name.startswith("image_")}
        tokens = self.tower(pixel_values, grid_thw=image_grid_thw, **layout).pooler_output.float()
        lengths = image_grid_thw.prod(-1) // self.tower.config.spatial_merge_size**2
        owner = torch.repeat_interleave(torch.arange(len(lengths), device=tokens.device), lengths)
        mean = tokens.new_zeros(len(lengths), tokens.shape[-1]).index_add(0, owner, tokens) / lengths[:, None]
        out: dict[str, Any] = {"loss": tokens.new_zeros(())}
        for name, weight in SHARES.items():
            labels = rest[f"labels_{name}"]
            # the language model learns to add tokens up by attention: their mean and their number are what it can know
            logits = self.read[f"{name}_head"](mean if labels.shape[0] == len(lengths) else tokens)
            counted = labels != IGNORE
            out["loss"] = out["loss"] + weight * functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE)
            out[name] = (logits.argmax(-1) == labels)[counted].float().mean().detach()
        return out


class SightTrainer(Trainer):
    """Logs the share of right classes per read-out beside the loss."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The read-outs' weighted loss."""
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


def new_tower(size: network.PocketSize) -> Qwen2_5_VisionTransformerPretrainedModel:
    """A freshly initialised vision tower."""
    tower = Qwen2_5_VisionTransformerPretrainedModel(network.vision_config(size))
    batch_pictures(tower)
    return tower


def train(recipe: SightRecipe, *, resume: bool = False, max_steps: int | None = None) -> Path:
    """Run the recipe; returns the folder of the finished tower.

    Raises:
        FileExistsError: `output` holds another run.
        ValueError: `max_steps` is below 1, or a resumed run would see other pictures.
    """
    end = last_step(recipe.steps, max_steps)
    fresh_output(recipe.output, resume=resume)
    last = whole_checkpoint(recipe.output) if resume else None
    remove_half_checkpoints(recipe.output)
    keep_recipe(recipe.output, recipe, ORDER, resume=last is not None)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    devices = processes if processes > 1 else max(1, torch.cuda.device_count())
    keep_devices(recipe.output, devices, resume=last is not None)
    torch.manual_seed(recipe.seed)
    views = Views(recipe.size, recipe.seed)
    tower = new_tower(recipe.size)
    model = Sight(tower, views.classes())
    gpu = torch.cuda.is_available()
    dataset = Dataset.from_dict({"number": range(recipe.steps * recipe.batch * devices)}).with_transform(
        lambda rows: {"view": [views.view(number) for number in rows["number"]]}
    )
    config = TrainingArguments(
        output_dir=str(recipe.output / "checkpoints"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": min(recipe.decay_steps, recipe.steps - 1), "decay_type": "cosine"},
        seed=recipe.seed,
        bf16=autocasts(),
        use_cpu=not gpu,
        ddp_backend="gloo" if not gpu and processes > 1 else None,
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=recipe.log_every,
        report_to=[],
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
    )
    trainer = SightTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        data_collator=lambda rows: collate(tower.config, [row["view"] for row in rows]),
        optimizers=(
            optimizers.build(
                model.named_parameters(),
                name=recipe.optimizer,
                learning_rate=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
            ),
            None,
        ),
        callbacks=[SummaryLog(recipe.output / "log.jsonl"), StopAt(end)],
    )
    if last is None or step_of(last) < end:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    else:
        trainer._load_from_checkpoint(str(last))
    if trainer.is_world_process_zero():
        tower.save_pretrained(recipe.output / "tower")
    return recipe.output / "tower"
