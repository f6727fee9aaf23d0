"""The vision tower of Qwen2.5-VL: patches of one picture to the tokens that stand for it.

Invariant: attention in windows is attention under a mask, so nothing is reordered and the tokens come out in the order
of their placeholders. Not covered: video (a grid's time is 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.policy.qwen_weights import Shape

EPS = 1e-6
"""Of every norm in the tower; not a setting of the architecture."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding: the first half of a head turns with the second."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def frequencies(theta: float, width: int) -> Tensor:
    """Inverse rotary frequencies of `width` values."""
    return 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)


class Vision:
    """The tower, on its tensors."""

    def __init__(self, shape: Shape, tensors: dict[str, Tensor]) -> None:
        self.shape = shape
        self._tensors = tensors
        self._frequencies = frequencies(shape.vision_theta, shape.vision_hidden // shape.vision_heads // 2)

    def __call__(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(tokens, width of the decoder) of one picture."""
        shape, kernel = self.shape, self._tensors["vision.patch_embed.proj.weight"]
        row, column = self._places(grid)
        # a convolution whose stride is its kernel is one product with the flat kernel
        x = patches @ kernel.flatten(1).T
        turns = torch.cat((row[:, None] * self._frequencies, column[:, None] * self._frequencies), -1).repeat(1, 2)
        cos, sin = turns.cos(), turns.sin()
        side = shape.window * shape.merge
        window = torch.div(row, side, rounding_mode="floor") * grid[2] + torch.div(column, side, rounding_mode="floor")
        same = window[:, None] == window[None, :]
        for n in range(shape.vision_blocks):
            x = self._block(n, x, cos, sin, None if n in shape.full_attention else same)
        x = rms_norm(x, self._tensors["vision.merger.ln_q.weight"], EPS).reshape(-1, shape.merge**2 * x.shape[-1])
        return self._linear("merger.mlp.2", F.gelu(self._linear("merger.mlp.0", x)))

    def _block(self, n: int, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        heads = self.shape.vision_heads
        seen = rms_norm(x, self._tensors[f"vision.blocks.{n}.norm1.weight"], EPS)
        q, k, v = self._linear(f"blocks.{n}.attn.qkv", seen).view(len(x), 3, heads, -1).permute(1, 2, 0, 3)
        out = F.scaled_dot_product_attention(rotate(q, cos, sin)[None], rotate(k, cos, sin)[None], v[None], mask)
        x = x + self._linear(f"blocks.{n}.attn.proj", out[0].transpose(0, 1).reshape(len(x), -1))
        seen = rms_norm(x, self._tensors[f"vision.blocks.{n}.norm2.weight"], EPS)
        gate = F.silu(self._linear(f"blocks.{n}.mlp.gate_proj", seen))
        return x + self._linear(f"blocks.{n}.mlp.down_proj", gate * self._linear(f"blocks.{n}.mlp.up_proj", seen))

    def _places(self, grid: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Row and column of every patch; the patches of one token stand together."""
        _, height, width = grid
        merge = self.shape.merge
        blocks = (height // merge, merge, width // merge, merge)
        row = torch.arange(height)[:, None].expand(height, width).reshape(blocks).transpose(1, 2).flatten()
        column = torch.arange(width)[None, :].expand(height, width).reshape(blocks).transpose(1, 2).flatten()
        return row, column

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._tensors[f"vision.{name}.weight"], self._tensors[f"vision.{name}.bias"])
