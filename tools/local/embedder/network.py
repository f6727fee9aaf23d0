"""The network in torch, for many pictures and for training.

The body is EfficientNet-Lite0; the head adds what pooling forgets, the layout of shapes and colours, which is most of a
flag. `forward` computes the same in numpy; a change here is a change there (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lensgraph.tools.local.embedder import shape

BATCH = 32


class Convolution(nn.Module):
    """Convolution with TensorFlow's "same" padding, batch norm and an optional ReLU6."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=shape.NORM_EPS)
        self.kernel, self.stride, self.act = kernel, stride, act

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            pads: list[int] = []
            for size in (x.shape[3], x.shape[2]):
                pads += shape.padding(size, self.kernel, self.stride)
            x = F.pad(x, pads)
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.act else x


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, project back."""

    def __init__(self, cin: int, cout: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = cin * expansion
        self.expand = Convolution(cin, wide) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, cout, act=False)
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class Embedder(nn.Module):
    """RGB in [-1, 1], shape (n, 3, side, side) -> unit vectors (n, shape.DIMENSION).

    Two views of one body. `look`, which `train.py` learns, compares meaning, layout and colours, and is best at what it
    was shown the like of. `sense` is the body's pooled features, of which `head.py` turns down the directions in which
    artists differ; it is less sharp, and better at things never seen. The vector is both, side by side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, shape.STEM, 3, 2)
        self.blocks = nn.Sequential(*(Block(*numbers) for numbers in shape.blocks()))
        deep = shape.blocks()[-1][1]
        self.top = Convolution(deep, shape.TOP)
        self.meaning = nn.Linear(shape.TOP, shape.DIMENSION)
        self.squeeze = nn.Conv2d(deep, shape.LAYOUT_CHANNELS, 1)
        self.layout = nn.Linear(shape.LAYOUT_CHANNELS * shape.LAYOUT_GRID**2, shape.DIMENSION, bias=False)
        self.colour = nn.Linear(3 * shape.COLOUR_GRID**2, shape.DIMENSION, bias=False)
        self.sense = nn.Linear(shape.TOP, shape.SENSE, bias=False)
        self.shorten = nn.Linear(shape.DIMENSION, shape.DIMENSION - shape.SENSE, bias=False)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(look, features): the learned unit vector, and the unit roots of the pooled features."""
        deep = self.blocks(self.stem(x))
        pooled = self.top(deep).mean((2, 3))
        places = F.adaptive_avg_pool2d(F.relu(self.squeeze(deep)), shape.LAYOUT_GRID).flatten(1)
        colours = F.adaptive_avg_pool2d(x, shape.COLOUR_GRID).flatten(1)
        look = F.normalize(self.meaning(pooled) + self.layout(places) + self.colour(colours), dim=1)
        # the root keeps a few strong channels from deciding alone
        return look, F.normalize(pooled.clamp(min=0).sqrt(), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        look, features = self.views(x)
        parts = F.normalize(self.sense(features), dim=1), shape.LOOK_SHARE * F.normalize(self.shorten(look), dim=1)
        return F.normalize(torch.cat(parts, 1), dim=1)


def load(weights: Path | None = None) -> Embedder:
    """The network with its weights, in eval mode. None: the weights that ship."""
    network = Embedder()
    network.load_state_dict({k: v.float() for k, v in load_file(weights or shape.WEIGHTS).items()})
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@cache
def shipped() -> shape.Run:
    """The network with the weights that ship, as `embedding.embed` runs it."""
    return runner(load())


def runner(network: nn.Module) -> shape.Run:
    """A network as `embedding.embed` runs it, batch by batch."""

    def run(pixels: Sequence[np.ndarray]) -> np.ndarray:
        vectors = [np.zeros((0, shape.DIMENSION), np.float32)]
        for start in range(0, len(pixels), BATCH):
            with torch.inference_mode():
                vectors.append(network(normalised(np.stack(pixels[start : start + BATCH]))).numpy())
        return np.concatenate(vectors)

    return run


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (n, side, side, 3) -> what the network takes."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return batch.contiguous(memory_format=torch.channels_last)
