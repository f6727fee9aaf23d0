"""Run a supervised recipe: `python -m rl.train sft`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from rich.console import Console
from rich.text import Text
from trl import SFTConfig

from lensgraph.agent.policy.families import table as families
from lensgraph.rl.network import checkpointing, memory, optimizers
from lensgraph.rl.network.collate import Collator, check_pictures
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.pocket.pocket_network import save
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.run import model_card, processes, start_from, trainer_options
from lensgraph.rl.run.base_recipes import rows_arguments
from lensgraph.rl.run.lora import lora_config
from lensgraph.rl.run.run_folder import begin
from lensgraph.rl.supervised.demonstration_rows import DemonstrationRows
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.rl.supervised.sft_trainer import ColdStartTrainer, own_tokens_only
from lensgraph.rl.supervised.start import start
from lensgraph.rl.supervised.trajectory_rows import TrajectoryRows

FIGURES = {
    "loss": "cross-entropy, nats a token of the policy's own",
    "mean_token_accuracy": "share of them guessed right",
}
"""Key of the last logged step -> its words on the model card."""


def train(
    recipe: SFTRecipe, *, resume: bool = False, max_steps: int | None = None, dry_run: bool = False
) -> Path | None:
    """Run the recipe; returns the folder of the finished policy, or None after a dry run.

    Raises:
        FileNotFoundError: `start_from`, `sight` or `trajectories` does not exist.
        FileExistsError: `output` holds another run.
        ValueError: `start_from` is of no family that can be trained, or its weights are not whole; two fields
            contradict each other; there is no right trajectory; `max_steps` is below 1; a tracker is not installed;
            or a resumed run would draw other rows.
    """
    _check(recipe)
    devices = processes.devices()
    run = begin(recipe, resume=resume, max_steps=max_steps, devices=devices, dry_run=dry_run)
    processor, network, rows = start(recipe, dry_run=dry_run)
    if recipe.sight is not None or recipe.freeze_vision:
        for part in families.tower(network):
            part.requires_grad_(False)
    if dry_run:
        _dry_run(rows, processor, recipe)
        return None
    count = recipe.steps * recipe.batch * recipe.accumulate * devices
    dataset = Dataset.from_dict({"number": range(count)}).with_transform(
        lambda batch: {"rendered": [rows.row(number) for number in batch["number"]]}
    )
    for part in families.eyes(network):
        batch_pictures(part)
    plain, network.__class__ = network.__class__, own_tokens_only(network.__class__)
    trained: Any = network
    if recipe.lora is not None:
        modules = families.decoder_modules(network, families.PROJECTIONS)
        trained = get_peft_model(network, lora_config(modules, recipe.lora))
    if not torch.cuda.is_available():
        # on a CPU the fused attention kernel's backward takes twice the time of plain products on rows this short
        families.decoder(network).set_attn_implementation("eager")
    optimizer = optimizers.build(
        trained.named_parameters(),
        name=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    trainer = ColdStartTrainer(
        model=trained,
        args=_arguments(recipe),
        train_dataset=dataset,
        data_collator=Collator(network.config, pad=processor.tokenizer.pad_token_id, max_length=recipe.max_length),
        processing_class=processor,
        optimizers=(optimizer, None),
        callbacks=run.callbacks(),
    )
    run.train(trainer)
    if recipe.lora is not None:
        network = trained.merge_and_unload()
    network.__class__ = plain
    policy = recipe.output / "policy"
    if trainer.is_world_process_zero():
        save(network, processor, policy)
        last: dict[str, Any] = next((row for row in reversed(trainer.state.log_history) if "loss" in row), {})
        figures = [f"- {name} on training rows: {last[key]:.4f}" for key, name in FIGURES.items() if key in last]
        model_card.write(policy, "sft", str(recipe.start_from or ""), recipe, figures)
    return policy


def _check(recipe: SFTRecipe) -> None:
    """Refuse a recipe whose fields contradict each other or name missing folders, before anything is loaded."""
    if recipe.sight is not None and not (recipe.sight / "config.json").is_file():
        raise FileNotFoundError(f"sight={recipe.sight}: no tower there; give a folder with a config.json")
    if recipe.trajectories is not None and recipe.start_from is None:
        raise ValueError("trajectories= needs start_from=: imitation begins with a policy that can read")
    if recipe.trajectories is not None and (recipe.sight is not None or recipe.lookalike_share):
        raise ValueError(
            "sight= and lookalike_share= are for demonstrations of the world; leave them out with trajectories="
        )
    if recipe.freeze_vision and recipe.start_from is None and recipe.sight is None:
        raise ValueError("freeze_vision=true of a new network would keep a blind tower; give sight= or start_from=")
    if recipe.start_from is not None:
        folder = start_from.find(recipe.start_from)
        families.trained(folder)
        each = memory.ADAM if recipe.optimizer == "adamw" else memory.MUON
        memory.refuse(folder, lora=recipe.lora is not None, each=each)
    if recipe.trajectories is not None:
        next(iter(TrajectoryStore(recipe.trajectories)), None)
    trainer_options.check(SFTConfig, recipe)
    lora_config("", recipe.lora or {})


def _arguments(recipe: SFTRecipe) -> SFTConfig:
    """The recipe as TRL's settings."""
    gpu = torch.cuda.is_available()
    decided = dict(
        **rows_arguments(recipe),
        gradient_accumulation_steps=recipe.accumulate,
        max_length=None,
        **checkpointing.argument(gpu and recipe.lora is not None),
        dataloader_num_workers=recipe.workers,
        dataloader_prefetch_factor=4 if recipe.workers else None,
        dataloader_persistent_workers=recipe.workers > 0,
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=False,
    )
    return trainer_options.build(SFTConfig, recipe, decided)


def _dry_run(rows: DemonstrationRows | TrajectoryRows, processor: Any, recipe: SFTRecipe) -> None:
    """Check two rows and print the second; the loss is on the bold tokens.

    Raises:
        ValueError: a row has no turn of the policy, is too long, or its placeholders do not fit its pictures.
    """
    console = Console(stderr=True)
    for number in (0, 1):
        rendered = rows.row(number)
        check_pictures(rendered, rows.renderer)
        if not any(rendered.mask):
            raise ValueError(f"row {number} holds no turn of the policy; there is nothing to learn from it")
        if len(rendered.ids) > recipe.max_length:
            raise ValueError(f"row {number} has {len(rendered.ids)} tokens; max_length={recipe.max_length}, raise it")
    text = Text()
    for token, own in zip(rendered.ids, rendered.mask, strict=True):
        if token != rows.renderer.image_pad:
            text.append(processor.tokenizer.decode([token]), style="bold green" if own else "dim")
    console.print(text)
    console.print("dry run: 2 rows, placeholders = pictures = grids, the loss is on the bold text; nothing was trained")
