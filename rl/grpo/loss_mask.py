"""Which sampled tokens an update counts: those of rewarded episodes, at the nodes that are trained.

An episode without a reward (a tool was down, a judge gave no verdict, the run raised) says nothing of the policy. Invariant
(tested): loss and gradient are those of the batch without it, in the normaliser and in the KL divergence as well.

Not covered: `bnpo`, whose normaliser is one forward pass's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lensgraph.rl.grpo.metrics import Decision
from lensgraph.rl.rollout.episode import Rollout

ROW_MEANS = frozenset({"grpo", "sapo", "luspo", "dr_grpo"})
"""Losses that TRL divides by the number of rows; `kept_share` says how many of them count."""


def leave_out(
    output: dict[str, Any],
    made: Sequence[Rollout],
    decisions: Sequence[Sequence[Decision]],
    train_nodes: Sequence[str],
    gather: Any,
) -> None:
    """Take what does not count out of a batch's `tool_mask`, (rows, completion tokens), in place.

    Sets `num_items_in_batch` (tokens of the loss) and `kept_share` (rows with a reward, as a share), both 0-dimensional and
    over all processes; `gather` gathers a tensor from them.
    """
    mask = output["tool_mask"]
    for row, (rollout, found) in enumerate(zip(made, decisions, strict=True)):
        if rollout.trajectory.reward is None:
            mask[row] = 0
            continue
        for decision in found:
            if train_nodes and decision.node not in train_nodes:
                mask[row, decision.start : decision.end] = 0
    output["num_items_in_batch"] = gather((output["completion_mask"] * mask).sum()).sum()
    rewarded = sum(rollout.trajectory.reward is not None for rollout in made)
    rows = gather(torch.tensor([[rewarded, len(made)]], device=mask.device)).sum(0)
    output["kept_share"] = rows[0].clamp(min=1) / rows[1]


def per_kept_row(loss: torch.Tensor, inputs: dict[str, Any], loss_type: str) -> torch.Tensor:
    """A pass's loss, its mean over rows taken over those that count."""
    share = inputs.get("kept_share")
    return loss if share is None or loss_type not in ROW_MEANS or bool(share == 1) else loss / share
