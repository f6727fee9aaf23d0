"""The network in numpy: EfficientNet-Lite0's body, and a head that adds the layout of shapes and colours.

Pictures are (row, column, channel), one at a time. Batch norms are folded into the convolutions when the weights are read.
A convolution of each channel by itself is a sum of shifted products, made a few rows at a time so that they stay in the
cache. Training uses the same network in torch (`training/torch_network.py`); a change here is a change there.

Invariant: vectors differ from torch's by less than 1e-5 (tested).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from lensgraph.tools.runtime.tensors import read_safetensors
from lensgraph.tools.runtime.threads import one_thread

WEIGHTS = Path(__file__).parent / "weights.safetensors"
"""The weights that ship, half precision."""
FEW = 8
"""Up to this many pictures are computed on one core: a question's picture must not wait for the other cores."""
SIDE = 192
"""Pictures are letterboxed into a square of this side, in pixels."""
DIMENSION = 256
"""Length of a vector: `SENSE` numbers of what the thing is, the rest of how it is drawn."""
SENSE = 192
"""Length of the first part of a vector: the pooled features."""
LOOK_SHARE = 0.5
"""Weight of the rest beside the first `SENSE` numbers."""
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
"""The layout of shapes: this many channels, averaged over a grid of 4 x 4 parts."""
COLOUR_GRID = 8
"""The layout of colours: RGB averaged over a grid of 8 x 8 parts."""
NORM_EPS = 1e-3
"""Added to a batch norm's variance, as in the published network."""

_CACHE = 1 << 16  # numbers worked on at a time: a quarter of a megabyte, which stays in a core's cache
_CEILING = np.float32(6)  # of ReLU6
_WORKERS = min(8, os.cpu_count() or 1)  # more threads wait for Python's lock more than they compute


@dataclass(frozen=True)
class FoldedConvolution:
    """A convolution with its batch norm folded in."""

    weight: np.ndarray
    """(in, out) where it is a product of matrices, else (kernel, kernel, channels)."""
    bias: np.ndarray
    """Added to each channel."""


@dataclass(frozen=True)
class FoldedBlock:
    """Inverted residual: expand, filter each channel, project back."""

    expand: FoldedConvolution | None
    """None in the first block, which does not expand."""
    depthwise: FoldedConvolution
    """Filters each channel by itself."""
    project: FoldedConvolution
    """Back to few channels, without an activation."""
    stride: int
    """Stride of the depthwise convolution."""
    skip: bool
    """True: the input is added to the output."""


class EmbedderNetwork:
    """Letterboxed pictures, uint8 (side, side, 3), to unit vectors (n, DIMENSION)."""

    def __init__(self, weights: Path) -> None:
        tensors = read_safetensors(weights)
        self._stem = _folded(tensors, "stem")
        self._blocks = [
            FoldedBlock(
                expand=_folded(tensors, f"blocks.{n}.expand") if expansion > 1 else None,
                depthwise=_folded(tensors, f"blocks.{n}.depthwise", each=True),
                project=_folded(tensors, f"blocks.{n}.project"),
                stride=stride,
                skip=stride == 1 and cin == cout,
            )
            for n, (cin, cout, expansion, _, stride) in enumerate(blocks())
        ]
        self._top = _folded(tensors, "top")
        self._squeeze = FoldedConvolution(tensors["squeeze.weight"][:, :, 0, 0].T, tensors["squeeze.bias"])
        self._meaning = tensors["meaning.weight"], tensors["meaning.bias"]
        self._layout, self._colour = tensors["layout.weight"], tensors["colour.weight"]
        self._sense, self._shorten = tensors["sense.weight"], tensors["shorten.weight"]

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """One row a picture. A picture's parts are too small for the cores to share; many pictures are shared."""
        vectors = np.zeros((len(pixels), DIMENSION), np.float32)
        with one_thread(), ThreadPoolExecutor(_WORKERS if len(pixels) > FEW else 1) as pool:
            for i, vector in enumerate(pool.map(self._vector, pixels)):
                vectors[i] = vector
        return vectors

    def _vector(self, pixels: np.ndarray) -> np.ndarray:
        x = pixels / np.float32(127.5) - np.float32(1)
        deep = _halved(x, self._stem)
        for block in self._blocks:
            deep = _through(deep, block)
        pooled = _product(deep, self._top, _CEILING).mean((0, 1))
        places = _pooled(_product(deep, self._squeeze, None), LAYOUT_GRID)
        weight, bias = self._meaning
        look = weight @ pooled + bias + self._layout @ places + self._colour @ _pooled(x, COLOUR_GRID)
        # the root keeps a few strong channels from deciding alone
        sense = _unit(self._sense @ _unit(np.sqrt(pooled)))
        return _unit(np.concatenate((sense, LOOK_SHARE * _unit(self._shorten @ _unit(look)))))


@cache
def shipped() -> EmbedderNetwork:
    """The network with the weights that ship."""
    return EmbedderNetwork(WEIGHTS)


def _folded(tensors: dict[str, np.ndarray], name: str, each: bool = False) -> FoldedConvolution:
    """A convolution with its batch norm folded in; `each`: it filters each channel by itself."""
    part = {key: tensors[f"{name}.norm.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    scale = part["weight"] / np.sqrt(part["running_var"] + np.float32(NORM_EPS))
    kernel = tensors[f"{name}.conv.weight"] * scale[:, None, None, None]
    weight = kernel[:, 0].transpose(1, 2, 0) if each else kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
    return FoldedConvolution(np.ascontiguousarray(weight), part["bias"] - part["running_mean"] * scale)


def _product(
    x: np.ndarray, by: FoldedConvolution, ceiling: np.float32 | None, out: np.ndarray | None = None
) -> np.ndarray:
    """A convolution of single pixels and its activation, from 0 to `ceiling`; the last step writes into `out`."""
    rows, columns, channels = x.shape
    y: np.ndarray = (x.reshape(-1, channels) @ by.weight).reshape(rows, columns, -1)
    y += by.bias
    if ceiling is not None:
        np.minimum(y, ceiling, out=y)
    return np.maximum(y, 0, out=y if out is None else out)


def _padded(rows: int, columns: int, channels: int, kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with its padding, which is 0, and the part of it to be written."""
    top, bottom = padding(rows, kernel, stride)
    left, right = padding(columns, kernel, stride)
    whole = np.zeros((top + rows + bottom, left + columns + right, channels), np.float32)
    return whole, whole[top : top + rows, left : left + columns]


def _halved(x: np.ndarray, stem: FoldedConvolution) -> np.ndarray:
    """The first convolution: 3 x 3, every second pixel."""
    rows, columns, channels = x.shape
    whole, inner = _padded(rows, columns, channels, 3, 2)
    inner[:] = x
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (0, 1))[::2, ::2]
    patches = windows.transpose(0, 1, 3, 4, 2)
    return _product(patches.reshape(*patches.shape[:2], -1), stem, _CEILING)


def _through(x: np.ndarray, block: FoldedBlock) -> np.ndarray:
    kernel, _, wide = block.depthwise.weight.shape
    rows, columns, _ = x.shape
    whole, inner = _padded(rows, columns, wide, kernel, block.stride)
    if block.expand is None:
        inner[:] = x
    else:
        _product(x, block.expand, _CEILING, inner)
    y = _each_channel(whole, block.depthwise, block.stride)
    out: np.ndarray = (y.reshape(-1, wide) @ block.project.weight).reshape(*y.shape[:2], -1)
    out += block.project.bias
    if block.skip:
        out += x
    return out


def _each_channel(whole: np.ndarray, by: FoldedConvolution, stride: int) -> np.ndarray:
    """The depthwise convolution of a padded picture, with its activation."""
    kernel, _, channels = by.weight.shape
    rows, columns = ((size - kernel) // stride + 1 for size in whole.shape[:2])
    out = np.empty((rows, columns, channels), np.float32)
    high = max(1, _CACHE // (columns * channels))
    product = np.empty((high, columns, channels), np.float32)
    for first in range(0, rows, high):
        part = out[first : first + high]
        part[:] = by.bias
        shifted_to = product[: len(part)]
        for i in range(kernel):
            below = first * stride + i
            lines = whole[below : below + (len(part) - 1) * stride + 1 : stride]
            for j in range(kernel):
                shifted = lines[:, j : j + (columns - 1) * stride + 1 : stride]
                part += np.multiply(shifted, by.weight[i, j], out=shifted_to)
        np.clip(part, 0, _CEILING, out=part)
    return out


def _pooled(x: np.ndarray, grid: int) -> np.ndarray:
    """Means over a grid of about equal parts, flat, channel by channel."""
    for axis in (0, 1):
        size = x.shape[axis]
        parts = [(n * size // grid, -(-(n + 1) * size // grid)) for n in range(grid)]
        x = np.stack([x.take(range(*part), axis).mean(axis) for part in parts], axis)
    return x.transpose(2, 0, 1).ravel()


def _unit(x: np.ndarray) -> np.ndarray:
    return x / max(float(np.sqrt(x @ x)), 1e-12)


def padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels that TensorFlow's "same" padding puts before and behind a side."""
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
