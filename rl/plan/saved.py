"""Bytes that a decoder keeps for its backward pass, found by a forward pass that computes sizes alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LENGTHS = (128, 256)
"""Tokens of the two passes. What grows with the square is attention's matrix, which the kernels in use do not keep."""


def saved_per_token(network: nn.Module, dtype: torch.dtype) -> float:
    """Bytes a token over all layers, weights aside; `network` is on the `meta` device."""
    short, long = (_saved(network, length, dtype) for length in LENGTHS)
    first, second = LENGTHS
    square = (long / second - short / first) / (second - first)
    return short / first - square * first


def _saved(network: Any, length: int, dtype: torch.dtype) -> int:
    decoder = network.get_decoder().train()
    width = network.get_input_embeddings().weight.shape[1]
    weights = {one.untyped_storage()._cdata for one in network.parameters()}
    found: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # a freed tensor's place would be taken by another one

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    turn = torch.empty(1, length, width, device="meta", dtype=dtype, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoder(inputs_embeds=turn, use_cache=False)
    return sum(found.values())
