"""Loss mask: an update counts the sampled tokens of rewarded episodes, at the nodes that are trained.

An episode without a reward (a tool was down, a judge gave no verdict, the run raised) tells nothing about the
policy. Invariant (tested): loss and gradient are those of the batch without it, in the normaliser and in the
KL divergence as well.

Not covered: `bnpo`, whose normaliser is the number of tokens of a single forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lensgraph.rl.grpo.training_metrics import Decision

ROW_MEANS = frozenset({"grpo", "sapo", "luspo", "dr_grpo"})
"""Losses that TRL divides by the number of rows; `kept_share` corrects it to the number of rewarded rows."""


def leave_out(
    output: dict[str, Any],
    rewards: Sequence[float | None],
    decisions: Sequence[Sequence[Decision]],
    train_nodes: Sequence[str],
    gather: Any,
) -> None:
    """Set a batch's `tool_mask`, (rows, completion tokens), to 0 where tokens do not count, in place.

    Adds two 0-dimensional tensors over all processes: `num_items_in_batch` (tokens of the loss) and
    `kept_share` (rewarded rows as a share of all).

    Args:
        output: The batch as TRL made it.
        rewards: The rows' rewards; a row with None counts for nothing.
        decisions: The decisions of every row.
        train_nodes: Nodes whose decisions count; empty: all.
        gather: Gathers a tensor from all processes.
    """
    mask = output["tool_mask"]
    for row, (reward, found) in enumerate(zip(rewards, decisions, strict=True)):
        if reward is None:
            mask[row] = 0
            continue
        for decision in found:
            if train_nodes and decision.node not in train_nodes:
                mask[row, decision.start : decision.end] = 0
    output["num_items_in_batch"] = gather((output["completion_mask"] * mask).sum()).sum()
    rewarded = sum(reward is not None for reward in rewards)
    rows = gather(torch.tensor([[rewarded, len(rewards)]], device=mask.device)).sum(0)
    output["kept_share"] = rows[0].clamp(min=1) / rows[1]


def per_kept_row(loss: torch.Tensor, inputs: dict[str, Any], loss_type: str) -> torch.Tensor:
    """A pass's loss; where TRL took a mean over all rows, the mean over the rewarded ones."""
    share = inputs.get("kept_share")
    return loss if share is None or loss_type not in ROW_MEANS or bool(share == 1) else loss / share
