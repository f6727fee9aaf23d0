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

from lensgraph.rl.network.precision import autocasts

Name = Literal["adamw", "muon"]


class Float32Muon(Muon):
    """Muon with its orthogonalisation in float32. Torch computes it in bfloat16, and a CPU without bfloat16
    instructions emulates that so slowly that the optimizer takes most of a step."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step: Nesterov momentum, orthogonalised, at the scale of an AdamW step.

        Raises:
            ValueError: there is a closure.
        """
        if closure is not None:
            raise ValueError("this optimizer takes no closure")
        for group in self.param_groups:
            parameters: list[torch.Tensor] = []
            gradients: list[torch.Tensor] = []
            buffers: list[torch.Tensor] = []
            self._init_group(group, parameters, gradients, buffers)
            for parameter, gradient, buffer in zip(parameters, gradients, buffers, strict=True):
                buffer.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * max(parameter.shape) ** 0.5  # `match_rms_adamw`
                parameter.add_(
                    orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"]),
                    alpha=-group["lr"] * scale,
                )
        return None


def orthogonal(matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """Approximately the nearest orthogonal matrix, by a quintic Newton-Schulz iteration (Jordan et al. 2024)."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found


class Chained(Optimizer):
    """Several optimizers as one; schedulers and checkpoints see one list of parameter groups."""

    def __init__(self, *parts: Optimizer) -> None:
        # without the base class's constructor, which would build groups and state of its own
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
        kind = Muon if autocasts() else Float32Muon
        parts.append(kind(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    if groups:
        parts.append(AdamW(groups, lr=learning_rate, betas=(0.9, 0.95)))
    if not parts:
        raise ValueError("no parameter takes a gradient; there is nothing to train")
    return parts[0] if len(parts) == 1 else Chained(*parts)
