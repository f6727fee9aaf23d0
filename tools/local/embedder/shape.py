"""What the network's two computations share, `forward` in numpy and `network` in torch: its numbers and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Run = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Letterboxed pictures, uint8 (side, side, 3), through a network: one row each."""
WEIGHTS = Path(__file__).parent / "weights.safetensors"
SIDE = 192
"""Pictures are letterboxed into a square of this side, in pixels."""
DIMENSION = 256
"""Length of a vector: `SENSE` numbers of what the thing is, the rest of how it is drawn."""
SENSE = 192
LOOK_SHARE = 0.5
"""How much the rest counts."""
STEM = 32
"""Channels of the first convolution, which halves the picture."""
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""(expansion, channels, repeats, stride, kernel) of EfficientNet-Lite0."""
TOP = 1280
"""Channels that are pooled."""
LAYOUT_CHANNELS, LAYOUT_GRID = 48, 4
COLOUR_GRID = 8
NORM_EPS = 1e-3
"""Of the batch norms."""


def padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What TensorFlow's "same" padding puts before and behind a side."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def blocks() -> list[tuple[int, int, int, int, int]]:
    """(channels in, channels out, expansion, kernel, stride) of every block."""
    found, cin = [], STEM
    for expansion, cout, repeats, stride, kernel in STAGES:
        for i in range(repeats):
            found.append((cin, cout, expansion, kernel, stride if i == 0 else 1))
            cin = cout
    return found
