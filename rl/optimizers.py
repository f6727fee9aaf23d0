"""The supervised stages' optimizer: Muon for matrices, AdamW for the rest.

Muon (Jordan et al. 2024, torch.optim.Muon) orthogonalises the momentum of a weight matrix. Embeddings, norms, biases
and convolutions are not matrices in that sense and stay with AdamW. Both take the same learning rate, because Muon's
step is scaled to the size of an AdamW step (Liu et al. 2025, arXiv 2502.16982).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

Name = Literal["adamw", "muon"]


class Chained(Optimizer):
    """Several optimizers that step as one; schedulers and checkpoints see one list of parameter groups."""

    def __init__(self, *parts: Optimizer) -> None:
        # the base class would build groups and state of its own; here they live in the parts
        self.parts = parts
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all parts, in order."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[torch.Tensor, Any]:  # type: ignore[override]
        """State by parameter, of all parts."""
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every part.

        Raises:
            ValueError: there is a closure; the parts would each evaluate it.
        """
        if closure is not None:
            raise ValueError("chained optimizers take no closure")
        for part in self.parts:
            part.step()
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of every part."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give every part its state back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def build(
    named: Iterable[tuple[str, nn.Parameter]], *, name: Name, learning_rate: float, weight_decay: float
) -> Optimizer:
    """The optimizer over the parameters that take a gradient; vectors (norms, biases) are not decayed.

    Raises:
        ValueError: no parameter takes a gradient.
    """
    matrices, others, vectors = [], [], []
    for key, parameter in named:
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif parameter.ndim == 2 and name == "muon" and "embed" not in key and "lm_head" not in key:
            matrices.append(parameter)
        else:
            others.append(parameter)
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    parts: list[Optimizer] = []
    if matrices:
        parts.append(Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    if groups:
        parts.append(AdamW(groups, lr=learning_rate, betas=(0.9, 0.95)))
    if not parts:
        raise ValueError("no parameter takes a gradient; there is nothing to train")
    return parts[0] if len(parts) == 1 else Chained(*parts)
