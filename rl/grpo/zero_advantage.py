"""Leave rows out of an update that cannot change it.

A row whose group has equal rewards has advantage 0. Without a KL term it adds nothing to the gradient, and
late in training most rows are like that. TRL also pads every batch to the longest row of all its rollouts;
the padding is cut.

Invariant (tested): the loss and its gradient are those of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

LOSSES = frozenset({"dapo", "cispo", "vespo"})
"""Losses whose normaliser is the number of tokens of the whole step, so that rows may be left out."""
_PROMPT = ("prompt_ids", "prompt_mask")
_COMPLETION = (
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
    "recorded_logps",
)
_BOTH = ("mm_token_type_ids", "token_type_ids")
_PIXELS = ("pixel_values", "image_grid_thw")


def needed(inputs: Mapping[str, Any]) -> int:
    """Number of rows with an advantage; at least one, because the other processes wait for this one's pass."""
    return max(1, len(_with_advantage(inputs["advantages"])))


def worth_a_pass(inputs: Mapping[str, Any], least: int = 1) -> dict[str, Any]:
    """The batch with the rows that have an advantage, cut to the longest of them; every key keeps its meaning.

    If they are fewer than `least`, rows without an advantage fill up: TRL gathers one value a row, so all
    processes must keep the same number of rows.
    """
    advantages = inputs["advantages"]
    count = len(advantages)
    rows = _with_advantage(advantages)
    idle = sorted(set(range(count)) - set(rows))
    rows = sorted([*rows, *idle[: max(0, least - len(rows))]])
    chosen = torch.tensor(rows, device=advantages.device)
    out = dict(inputs)
    for key, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == count and key not in _PIXELS:
            out[key] = value[chosen]
    if inputs.get("num_images") is not None:
        out |= _pictures(inputs, rows)
    return _cut(out, inputs["prompt_ids"].shape[1], inputs["completion_ids"].shape[1])


def _with_advantage(advantages: torch.Tensor) -> list[int]:
    return [int(row) for row in advantages.reshape(len(advantages), -1).any(1).nonzero()[:, 0]]


def _pictures(inputs: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    counts = [int(n) for n in inputs["num_images"]]
    grids = inputs["image_grid_thw"].split(counts)
    patches = [int(grid.prod(-1).sum()) if len(grid) else 0 for grid in grids]
    pixels = inputs["pixel_values"].split(patches)
    return {
        "num_images": [counts[row] for row in rows],
        "image_grid_thw": torch.cat([grids[row] for row in rows]),
        "pixel_values": torch.cat([pixels[row] for row in rows]),
    }


def _cut(batch: dict[str, Any], prompt: int, completion: int) -> dict[str, Any]:
    """Cut the columns that are padding in every row: on the left of prompts, on the right of completions."""
    first = int(batch["prompt_mask"].any(0).float().argmax())
    filled = batch["completion_mask"].any(0).nonzero()
    last = int(filled[-1]) + 1 if len(filled) else 1
    for key in (*_PROMPT, *_COMPLETION, *_BOTH, "advantages"):
        value = batch.get(key)
        if not isinstance(value, torch.Tensor) or value.dim() < 2:
            continue
        if key in _PROMPT:
            batch[key] = value[:, first:]
        elif key in _BOTH:
            batch[key] = value[:, first : prompt + last]
        elif value.shape[1] == completion:  # some are one value a row
            batch[key] = value[:, :last]
    return batch
