"""A fresh pocket network copies before it has seen a single row."""

from __future__ import annotations

import pytest
import torch

from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl.pocket.pocket_network import PocketSize, build_network


def _copied(network: torch.nn.Module, size: int) -> float:
    """Share of tokens of a repeated random sequence that are predicted from its first showing."""
    torch.manual_seed(1)
    once = torch.randint(size, (8, 40))
    with torch.no_grad():
        logits = network(input_ids=torch.cat([once, once], 1)).logits
    return float((logits[:, 40:-1].argmax(-1) == once[:, 1:]).float().mean())


def test_the_start_copies_and_a_random_start_does_not(processor: PictureProcessor) -> None:
    words = len(processor.tokenizer)
    assert _copied(build_network(processor, PocketSize(layers=2)), words) > 0.7
    assert _copied(build_network(processor, PocketSize(layers=2, copying=False)), words) < 0.05


def test_a_network_without_room_for_the_circuit_is_refused_with_its_numbers(processor: PictureProcessor) -> None:
    with pytest.raises(ValueError, match="1 of 3"):
        build_network(processor, PocketSize(kv_heads=1))
