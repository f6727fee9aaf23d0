"""The vision tower of Qwen2.5-VL: patches of one picture to the tokens that stand for it.

Invariant: windows are attended to in place, so no patch is reordered and the tokens come out in the order of their
placeholders. Not covered: video (a grid's time is 1).
"""

from __future__ import annotations

import numpy as np

from lensgraph.agent.policy.light.mathematics import attention, frequencies, gelu, linear, rms_norm, rotate, silu
from lensgraph.agent.policy.light.weights import NetworkShape

EPS = 1e-6
"""Epsilon of every norm in the tower; the architecture fixes it."""


class Vision:
    """The tower. It takes over `tensors` and scales the weights of the queries in them."""

    def __init__(self, shape: NetworkShape, tensors: dict[str, np.ndarray]) -> None:
        self.shape = shape
        self._tensors = tensors
        width = shape.vision_hidden // shape.vision_heads
        self._frequencies = frequencies(shape.vision_theta, width // 2)
        for n in range(shape.vision_blocks):
            for part in ("weight", "bias"):
                tensors[f"vision.blocks.{n}.attn.qkv.{part}"][: shape.vision_hidden] *= width**-0.5

    def __call__(self, patches: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
        """The tokens of one picture, (tokens, width of the decoder)."""
        shape, kernel = self.shape, self._tensors["vision.patch_embed.proj.weight"]
        row, column = self._places(grid)
        # a convolution whose stride is its kernel is one product with the flat kernel
        x = linear(patches, kernel.reshape(len(kernel), -1))
        turns = np.concatenate((row[:, None] * self._frequencies, column[:, None] * self._frequencies), -1)
        cos, sin = np.cos(turns), np.sin(turns)
        side = shape.window * shape.merge
        owner = row // side * grid[2] + column // side
        windows = [np.flatnonzero(owner == number) for number in sorted(set(owner.tolist()))]
        for n in range(shape.vision_blocks):
            whole = n in shape.full_attention or len(windows) == 1
            x = self._block(n, x, cos, sin, None if whole else windows)
        x = rms_norm(x, self._tensors["vision.merger.ln_q.weight"], EPS).reshape(-1, shape.merge**2 * x.shape[-1])
        return self._linear("merger.mlp.2", gelu(self._linear("merger.mlp.0", x)))

    def _block(
        self, n: int, x: np.ndarray, cos: np.ndarray, sin: np.ndarray, windows: list[np.ndarray] | None
    ) -> np.ndarray:
        heads = self.shape.vision_heads
        seen = rms_norm(x, self._tensors[f"vision.blocks.{n}.norm1.weight"], EPS)
        qkv = self._linear(f"blocks.{n}.attn.qkv", seen).reshape(len(x), 3 * heads, -1).transpose(1, 0, 2)
        turned, v = rotate(qkv[: 2 * heads], cos, sin), qkv[2 * heads :]
        q, k = turned[:heads], turned[heads:]
        if windows is None:
            out = attention(q, k, v)
        else:
            out = np.empty_like(x)
            for window in windows:
                out[window] = attention(q[:, window], k[:, window], v[:, window])
        x = x + self._linear(f"blocks.{n}.attn.proj", out)
        seen = rms_norm(x, self._tensors[f"vision.blocks.{n}.norm2.weight"], EPS)
        gate = silu(self._linear(f"blocks.{n}.mlp.gate_proj", seen))
        gate *= self._linear(f"blocks.{n}.mlp.up_proj", seen)
        x += self._linear(f"blocks.{n}.mlp.down_proj", gate)
        return x

    def _places(self, grid: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every patch, float32; the patches of one token stand together."""
        _, height, width = grid
        merge = self.shape.merge
        places = np.indices((height, width), np.float32)
        blocks = places.reshape(2, height // merge, merge, width // merge, merge).transpose(0, 1, 3, 2, 4)
        row, column = blocks.reshape(2, -1)
        return row, column

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return linear(x, self._tensors[f"vision.{name}.weight"], self._tensors[f"vision.{name}.bias"])
