"""The network in numpy, for a few pictures: what `network` computes in torch, without the second that torch's import takes.

Pictures are (row, column, channel), one at a time. Batch norms are folded into the convolutions when the weights are read. A
convolution of each channel by itself is a sum of shifted products, made a few rows at a time so that they stay in the cache.
Invariant: vectors differ from torch's by less than 1e-5 (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from lensgraph.tools.local.embedder import shape
from lensgraph.tools.runtime.tensors import read_safetensors
from lensgraph.tools.runtime.threads import one_thread

_CACHE = 1 << 16  # numbers that are worked on at a time: a quarter of a megabyte
_CEILING = np.float32(6)


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch norm folded in."""

    weight: np.ndarray
    """(in, out) where it is a product of matrices, else (kernel, kernel, channels)."""
    bias: np.ndarray
    """What is added to each channel."""


@dataclass(frozen=True)
class Block:
    """Inverted residual: expand, filter each channel, project back."""

    expand: Convolution | None
    """None in the first block, which does not expand."""
    depthwise: Convolution
    """Of each channel."""
    project: Convolution
    """Back to few channels, without an activation."""
    stride: int
    """Of the depthwise convolution."""
    skip: bool
    """Whether what came in is added to what goes out."""


class Forward:
    """Letterboxed pictures, uint8 (side, side, 3), to unit vectors (n, DIMENSION)."""

    def __init__(self, weights: Path) -> None:
        tensors = read_safetensors(weights)
        self._stem = _folded(tensors, "stem")
        self._blocks = [
            Block(
                expand=_folded(tensors, f"blocks.{n}.expand") if expansion > 1 else None,
                depthwise=_folded(tensors, f"blocks.{n}.depthwise", each=True),
                project=_folded(tensors, f"blocks.{n}.project"),
                stride=stride,
                skip=stride == 1 and cin == cout,
            )
            for n, (cin, cout, expansion, _, stride) in enumerate(shape.blocks())
        ]
        self._top = _folded(tensors, "top")
        self._squeeze = Convolution(tensors["squeeze.weight"][:, :, 0, 0].T, tensors["squeeze.bias"])
        self._meaning = tensors["meaning.weight"], tensors["meaning.bias"]
        self._layout, self._colour = tensors["layout.weight"], tensors["colour.weight"]
        self._sense, self._shorten = tensors["sense.weight"], tensors["shorten.weight"]

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """One row a picture, whose every part is done before the cores could share it."""
        vectors = np.zeros((len(pixels), shape.DIMENSION), np.float32)
        with one_thread():
            for i, picture in enumerate(pixels):
                vectors[i] = self._vector(picture / np.float32(127.5) - np.float32(1))
        return vectors

    def _vector(self, x: np.ndarray) -> np.ndarray:
        deep = _halved(x, self._stem)
        for block in self._blocks:
            deep = _through(deep, block)
        pooled = _product(deep, self._top, _CEILING).mean((0, 1))
        places = _pooled(_product(deep, self._squeeze, None), shape.LAYOUT_GRID)
        weight, bias = self._meaning
        look = weight @ pooled + bias + self._layout @ places + self._colour @ _pooled(x, shape.COLOUR_GRID)
        # the root keeps a few strong channels from deciding alone
        sense = _unit(self._sense @ _unit(np.sqrt(pooled)))
        return _unit(np.concatenate((sense, shape.LOOK_SHARE * _unit(self._shorten @ _unit(look)))))


@cache
def shipped() -> Forward:
    """The network with the weights that ship."""
    return Forward(shape.WEIGHTS)


def _folded(tensors: dict[str, np.ndarray], name: str, each: bool = False) -> Convolution:
    """`each`: of each channel by itself."""
    part = {key: tensors[f"{name}.norm.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    scale = part["weight"] / np.sqrt(part["running_var"] + np.float32(shape.NORM_EPS))
    kernel = tensors[f"{name}.conv.weight"] * scale[:, None, None, None]
    weight = kernel[:, 0].transpose(1, 2, 0) if each else kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
    return Convolution(np.ascontiguousarray(weight), part["bias"] - part["running_mean"] * scale)


def _product(x: np.ndarray, by: Convolution, ceiling: np.float32 | None, out: np.ndarray | None = None) -> np.ndarray:
    """A convolution of single pixels and its activation, from 0 to `ceiling`; the last step writes into `out`."""
    rows, columns, channels = x.shape
    y: np.ndarray = (x.reshape(-1, channels) @ by.weight).reshape(rows, columns, -1)
    y += by.bias
    if ceiling is not None:
        np.minimum(y, ceiling, out=y)
    return np.maximum(y, 0, out=y if out is None else out)


def _padded(rows: int, columns: int, channels: int, kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with its padding, which is 0, and the part of it to be written."""
    top, bottom = shape.padding(rows, kernel, stride)
    left, right = shape.padding(columns, kernel, stride)
    whole = np.zeros((top + rows + bottom, left + columns + right, channels), np.float32)
    return whole, whole[top : top + rows, left : left + columns]


def _halved(x: np.ndarray, stem: Convolution) -> np.ndarray:
    """The first convolution: 3 x 3, every second pixel."""
    rows, columns, channels = x.shape
    whole, inner = _padded(rows, columns, channels, 3, 2)
    inner[:] = x
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (0, 1))[::2, ::2]
    patches = windows.transpose(0, 1, 3, 4, 2)
    return _product(patches.reshape(*patches.shape[:2], -1), stem, _CEILING)


def _through(x: np.ndarray, block: Block) -> np.ndarray:
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


def _each_channel(whole: np.ndarray, by: Convolution, stride: int) -> np.ndarray:
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
