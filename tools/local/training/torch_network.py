"""The embedder's network in torch, for training.

The body is EfficientNet-Lite0; the head adds what pooling forgets, the layout of shapes and colours, which is most of a
flag. `embedder/network.py` computes the same in numpy; a change here is a change there (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lensgraph.tools.local.embedder import numpy_network
from lensgraph.tools.local.embedder.shipped import Run

BATCH = 32
"""Pictures in a forward pass."""


class Convolution(nn.Module):
    """Convolution with TensorFlow's "same" padding, batch norm and an optional ReLU6."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=numpy_network.NORM_EPS)
        self.kernel, self.stride, self.act = kernel, stride, act

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of a batch, (n, channels, rows, columns)."""
        if self.kernel > 1:
            pads: list[int] = []
            for size in (x.shape[3], x.shape[2]):
                pads += numpy_network.padding(size, self.kernel, self.stride)
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
        """The block's output for a batch."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class TorchNetwork(nn.Module):
    """RGB in [-1, 1], shape (n, 3, side, side) -> unit vectors (n, network.DIMENSION).

    Two views of one body, side by side. `look`, which `fit.py` learns, compares meaning, layout and colours, and is best
    at things like those it was trained on. `sense` is the body's pooled features, in which `head.py` turns down the
    directions in which artists differ; it is less sharp, and better at things never seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, numpy_network.STEM, 3, 2)
        self.blocks = nn.Sequential(*(Block(*numbers) for numbers in numpy_network.blocks()))
        deep = numpy_network.blocks()[-1][1]
        self.top = Convolution(deep, numpy_network.TOP)
        self.meaning = nn.Linear(numpy_network.TOP, numpy_network.DIMENSION)
        self.squeeze = nn.Conv2d(deep, numpy_network.LAYOUT_CHANNELS, 1)
        self.layout = nn.Linear(
            numpy_network.LAYOUT_CHANNELS * numpy_network.LAYOUT_GRID**2, numpy_network.DIMENSION, bias=False
        )
        self.colour = nn.Linear(3 * numpy_network.COLOUR_GRID**2, numpy_network.DIMENSION, bias=False)
        self.sense = nn.Linear(numpy_network.TOP, numpy_network.SENSE, bias=False)
        self.shorten = nn.Linear(numpy_network.DIMENSION, numpy_network.DIMENSION - numpy_network.SENSE, bias=False)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(look, features): the learned unit vector, and the unit roots of the pooled features."""
        deep = self.blocks(self.stem(x))
        pooled = self.top(deep).mean((2, 3))
        places = F.adaptive_avg_pool2d(F.relu(self.squeeze(deep)), numpy_network.LAYOUT_GRID).flatten(1)
        colours = F.adaptive_avg_pool2d(x, numpy_network.COLOUR_GRID).flatten(1)
        look = F.normalize(self.meaning(pooled) + self.layout(places) + self.colour(colours), dim=1)
        # the root keeps a few strong channels from deciding alone
        return look, F.normalize(pooled.clamp(min=0).sqrt(), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The unit vectors of a batch."""
        look, features = self.views(x)
        parts = (
            F.normalize(self.sense(features), dim=1),
            numpy_network.LOOK_SHARE * F.normalize(self.shorten(look), dim=1),
        )
        return F.normalize(torch.cat(parts, 1), dim=1)


def load_network(weights: Path | None = None) -> TorchNetwork:
    """The network with its weights, in eval mode. None: the weights that ship."""
    loaded = TorchNetwork()
    loaded.load_state_dict({k: v.float() for k, v in load_file(weights or numpy_network.WEIGHTS).items()})
    return loaded.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def runner(module: nn.Module) -> Run:
    """A network as `shipped.embed` runs it, batch by batch."""

    def run(pixels: Sequence[np.ndarray]) -> np.ndarray:
        vectors = [np.zeros((0, numpy_network.DIMENSION), np.float32)]
        for start in range(0, len(pixels), BATCH):
            with torch.inference_mode():
                vectors.append(module(normalised(np.stack(pixels[start : start + BATCH]))).numpy())
        return np.concatenate(vectors)

    return run


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (n, side, side, 3) -> what the network takes."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return batch.contiguous(memory_format=torch.channels_last)
