"""TRL's SFTTrainer with a loss that is computed on the policy's own tokens only."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from trl import SFTTrainer

from lensgraph.rl.network.collate import IGNORE
from lensgraph.rl.pocket.pocket_network import restore


class OwnTokensOnly:
    """Mixed into a network: the vocabulary projection on the policy's own tokens only.

    They are about a fifth of a row. TRL's fused head is written for GPUs; on a CPU it costs more than the rest
    of the network.
    """

    model: Any
    lm_head: Any

    def forward(self, labels: torch.Tensor | None = None, **inputs: Any) -> Any:
        """With `labels`: the summed cross-entropy (nats), the share of right guesses and the number of labelled
        tokens. Without: the network's own output."""
        if labels is None:
            return super().forward(**inputs)  # type: ignore[misc]
        hidden = self.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        own = labels[:, 1:] != IGNORE
        logits, targets = self.lm_head(hidden[own]).float(), labels[:, 1:][own]
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        return {"loss": loss, "right": (logits.argmax(-1) == targets).float().mean().detach(), "tokens": own.sum()}


@functools.cache
def own_tokens_only(network: type) -> type:
    """A network's class with `OwnTokensOnly` mixed in, under its own name, by which transformers knows it."""
    return type(network.__name__, (OwnTokensOnly, network), {})


class ColdStartTrainer(SFTTrainer):
    """TRL's trainer for a network that computes its own loss (`OwnTokensOnly`)."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy (nats) over the policy's own tokens of the optimiser step."""
        out = model(**inputs)
        tokens = out["tokens"] if num_items_in_batch is None else num_items_in_batch
        self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(out["right"].item())
        # tokens are counted over all processes, and gradients are averaged over them
        loss = out["loss"] / tokens * (self.accelerator.num_processes if num_items_in_batch is not None else 1)
        return (loss, out) if return_outputs else loss

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not restore(self.model if model is None else model, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
