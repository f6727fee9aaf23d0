"""Fixtures of the rl tests: a tiny network with its processor and renderer."""

from ....rl.conftest import policy, processor, renderer, tiny_size

__all__ = ["policy", "processor", "renderer", "tiny_size"]
