"""Muon on the matrices, AdamW on the rest, one optimizer to the outside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from lensgraph.rl.network import optimizers


class Net(nn.Module):
    """An embedding, a matrix and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(7, 8)
        self.out = nn.Linear(8, 4)

    def step(self, optimizer: torch.optim.Optimizer) -> float:
        """One step towards zero."""
        loss = self.out(self.embed_tokens(torch.arange(7))).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())


def _build(net: Net, name: optimizers.Name = "muon") -> torch.optim.Optimizer:
    return optimizers.build(net.named_parameters(), name=name, learning_rate=0.01, weight_decay=0.1)


def test_only_matrices_of_the_blocks_go_to_muon_and_vectors_do_not_decay() -> None:
    net = Net()
    muon, *plain = _build(net).param_groups
    assert muon["params"] == [net.out.weight]
    assert [(group["params"], group["weight_decay"]) for group in plain] == [
        ([net.embed_tokens.weight], 0.1),
        ([net.out.bias], 0.0),
    ]
    assert type(_build(net, "adamw")) is AdamW


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.embed_tokens.requires_grad_(False)
    held = [p for group in _build(net).param_groups for p in group["params"]]
    assert not any(p is net.embed_tokens.weight for p in held)


def test_it_learns_and_a_schedule_reaches_both_parts() -> None:
    net = Net()
    optimizer = _build(net)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 30 else 0.0)
    losses = []
    for _ in range(30):
        losses.append(net.step(optimizer))
        schedule.step()
    assert losses[-1] < 0.5 * losses[0]
    frozen = copy.deepcopy(net.state_dict())
    net.step(optimizer)
    assert all(torch.equal(frozen[name], value) for name, value in net.state_dict().items())


def test_its_state_survives_a_checkpoint() -> None:
    net = Net()
    optimizer = _build(net)
    for _ in range(3):
        net.step(optimizer)
    twin = copy.deepcopy(net)
    other = _build(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]
    for _ in range(2):
        net.step(optimizer)
        twin.step(other)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(8, 4), (4, 8), (16, 16)])
def test_in_float32_it_steps_as_torch_s_does_in_bfloat16(shape: tuple[int, int]) -> None:
    """Several steps, so that momentum and decay count too; what differs is the rounding."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    ended = []
    for kind in (Muon, optimizers.Float32Muon):
        weight = nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            weight.grad = gradient
            optimizer.step()
        ended.append(weight.detach())
    assert (ended[0] - ended[1]).norm() < 0.05 * (ended[0] - start).norm()
    assert ended[1].dtype == torch.float32


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="no closure"):
        _build(Net()).step(lambda: 0.0)


def test_nothing_to_train_is_an_error() -> None:
    net = Net()
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        _build(net)
