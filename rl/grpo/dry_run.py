"""Check everything that a run does before it changes a weight: `python -m rl.train grpo --dry-run`.

The trainer is built as for the run (LoRA, reference, loss, trackers, engine), makes one batch of rollouts of
at most two tasks, and computes its loss. Each statement that is printed at the end was checked on that batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from lensgraph.rl.evaluation.trajectories.show_trajectory import show
from lensgraph.rl.grpo import training_metrics
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.rollout.episode import Rollout
from lensgraph.rl.run.callbacks import ROUNDING
from lensgraph.rl.tasks import Task

TASKS = 2  # tasks in the batch


def check(trainer: GraphGRPOTrainer, tasks: Sequence[Task], console: Console) -> None:
    """Check one batch, and print one of its episodes.

    Raises:
        ValueError: a check failed, or a part does not work; the message is one line.
    """
    chosen = tasks[:TASKS]
    rows = [{"prompt": [{"role": "user", "content": t.id}]} for t in chosen for _ in range(trainer.num_generations)]
    trainer.model.train()
    try:
        batch = trainer._generate_and_score_completions(rows)
        for rollout in trainer.made:
            if rollout.trajectory.error:
                raise ValueError(f"a rollout failed: {rollout.trajectory.error}")
        tokens = sum(_row(rollout, n, batch, trainer) for n, rollout in enumerate(trainer.made))
        _pixels(trainer.made, batch)
        with trainer.accelerator.autocast():  # in the run the trainer does so itself
            mean, most = _distance(trainer, batch)
            loss = _loss(trainer, batch)
    except RuntimeError as error:  # shapes, memory, a server that is down: of torch or of an engine
        raise ValueError(f"dry run: {error}") from error
    if not mean < ROUNDING:
        raise ValueError(
            f"dry run: the training pass gives sampled tokens log-probabilities that are {mean:.3f} nats away in the mean; "
            f"at most {ROUNDING} can be rounding"
        )
    show(trainer.made[0].trajectory, console)
    console.print(
        f"dry run: {len(trainer.made)} rollouts of {len(chosen)} tasks, {tokens} sampled tokens; pictures = placeholders = "
        f"grids, and their pixels are those of the rollout; the loss ({loss:.4f}) counts exactly the policy's turns, id for "
        f"id as sampled; their log-probabilities are those of the sampling (mean distance {mean:.1e} nats, largest {most:.1e}); "
        "nothing was trained",
        highlight=False,
    )


def _row(rollout: Rollout, row: int, batch: Mapping[str, Any], trainer: GraphGRPOTrainer) -> int:
    """Check a row, and return the number of its tokens in the loss."""
    trajectory, rendered = rollout.trajectory, rollout.rendered
    if not any(rendered.mask):
        raise ValueError(f"dry run: {trajectory.id} sampled nothing that fits, or the policy reports no token ids")
    border = rendered.mask.index(1)
    ids, decode = batch["completion_ids"][row].tolist(), trainer.renderer.tokenizer.decode
    counted = (batch["completion_mask"] * batch["tool_mask"])[row].tolist()
    sampled = [0] * len(counted)
    for step in trajectory.decisions:
        if step.tokens is None:
            continue
        start, end = (place - border for place in step.tokens)
        sampled[start:end] = [1] * (end - start)
        own = ids[start:end]
        said = decode(own[:-1] if own[-1] == trainer.renderer.eos else own)
        if not said.startswith(step.text):  # a text may end before its ids, at a stop string
            raise ValueError(f"dry run: {trajectory.id} would train on {said!r} where the policy said {step.text!r}")
        if trainer.rollouts.train_nodes and step.node not in trainer.rollouts.train_nodes:
            sampled[start:end] = [0] * (end - start)
    wanted = [0] * len(counted) if trajectory.reward is None else sampled
    if counted != wanted:
        raise ValueError(f"dry run: the loss of {trajectory.id} does not count exactly the policy's turns")
    for seen in trajectory.pictures:
        data = rollout.pictures.get(seen.id)
        if data is None or hashlib.sha256(data).hexdigest() != seen.id:
            raise ValueError(
                f"dry run: picture {seen.id[:12]} of {trajectory.id} is not the one that its name is the hash of"
            )
    return int(sum(counted))


def _pixels(made: Sequence[Rollout], batch: Mapping[str, Any]) -> None:
    pictures = [picture for rollout in made for picture in rollout.rendered.pixels]
    if not pictures or "pixel_values" not in batch:  # a family that is not Qwen-VL trains on these very objects
        return
    values = torch.cat([torch.from_numpy(picture.values) for picture in pictures])
    if not torch.equal(batch["pixel_values"].cpu(), values):
        raise ValueError("dry run: the pixels of the training batch are not those that the policy saw")


def _distance(trainer: GraphGRPOTrainer, batch: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and largest distance between recorded and recomputed log-probabilities, in nats, over what the
    loss counts."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    vision = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images") if k in batch}
    width, size = batch["completion_ids"].shape[1], trainer.args.per_device_train_batch_size
    trainer.model.eval()
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, batch_size=size, **vision)[
            0
        ]
    trainer.model.train()
    away, tokens, most = training_metrics.distance(found, batch)[0].tolist()
    return away / max(1.0, tokens), most


def _loss(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> float:
    """The loss of the first pass that the run would make on such a batch."""
    rows, each = len(batch["prompt_ids"]), trainer.args.per_device_train_batch_size
    parts = split_tensor_dict(split_pixel_values_by_grid(batch), rows // each if rows % each == 0 else 1)
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    with torch.no_grad():
        return float(trainer._compute_loss(trainer.model, unsplit_pixel_values_by_grid(parts[0])))
