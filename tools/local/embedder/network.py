"""A picture -> one unit vector, on a CPU, in milliseconds.

The body is EfficientNet-Lite0; the head adds what pooling forgets, the layout of shapes and colours, which is most of a
flag. A picture on a plain background is read as its item (`cutout.lift`). Invariant: `embed` depends on the weights and
on the pixels composited over `BACKDROP` only, and `fingerprint` changes whenever its result can, so that vectors made by
one version are never compared with another's.
Needs torch, numpy and Pillow; knows nothing of indexes or of the world.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tools.local.embedder.cutout import lift

WEIGHTS = Path(__file__).parent / "weights.safetensors"
SIDE = 192
"""Pictures are letterboxed into a square of this side, in pixels."""
DIMENSION = 256
"""Length of a vector: `_SENSE` numbers of what the thing is, the rest of how it is drawn."""
BACKDROP = (208, 208, 212)
"""What transparent pixels and the letterbox are filled with: a light grey no flag has."""
MARGIN = 0.04
"""Free border on each side of the letterboxed picture, as a share of the square."""
BATCH = 32

# (expansion, channels, repeats, stride, kernel) of EfficientNet-Lite0
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_LAYOUT_CHANNELS = 48
_LAYOUT_GRID = 4
_COLOUR_GRID = 8
_SENSE = 192
_LOOK_SHARE = 0.5


class Convolution(nn.Module):
    """Convolution with TensorFlow's "same" padding, batch norm and an optional ReLU6."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=1e-3)
        self.kernel, self.stride, self.act = kernel, stride, act

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            pads = []
            for size in (x.shape[3], x.shape[2]):
                total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
                pads += [total // 2, total - total // 2]
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
    """RGB in [-1, 1], shape (n, 3, side, side) -> unit vectors (n, DIMENSION).

    Two views of one body. `look`, which `train.py` learns, compares meaning, layout and colours, and is best at what it
    was shown the like of. `sense` is the body's pooled features, of which `head.py` turns down the directions in which
    artists differ; it is less sharp, and better at things never seen. The vector is both, side by side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        cin = 32
        for expansion, cout, repeats, stride, kernel in _STAGES:
            for i in range(repeats):
                blocks.append(Block(cin, cout, expansion, kernel, stride if i == 0 else 1))
                cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.top = Convolution(cin, 1280)
        self.meaning = nn.Linear(1280, DIMENSION)
        self.squeeze = nn.Conv2d(cin, _LAYOUT_CHANNELS, 1)
        self.layout = nn.Linear(_LAYOUT_CHANNELS * _LAYOUT_GRID**2, DIMENSION, bias=False)
        self.colour = nn.Linear(3 * _COLOUR_GRID**2, DIMENSION, bias=False)
        self.sense = nn.Linear(1280, _SENSE, bias=False)
        self.shorten = nn.Linear(DIMENSION, DIMENSION - _SENSE, bias=False)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(look, features): the learned unit vector, and the unit roots of the pooled features."""
        deep = self.blocks(self.stem(x))
        pooled = self.top(deep).mean((2, 3))
        places = F.adaptive_avg_pool2d(F.relu(self.squeeze(deep)), _LAYOUT_GRID).flatten(1)
        colours = F.adaptive_avg_pool2d(x, _COLOUR_GRID).flatten(1)
        look = F.normalize(self.meaning(pooled) + self.layout(places) + self.colour(colours), dim=1)
        # the root keeps a few strong channels from deciding alone
        return look, F.normalize(pooled.clamp(min=0).sqrt(), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        look, features = self.views(x)
        parts = F.normalize(self.sense(features), dim=1), _LOOK_SHARE * F.normalize(self.shorten(look), dim=1)
        return F.normalize(torch.cat(parts, 1), dim=1)


def load(weights: Path | None = None) -> Embedder:
    """The network with its weights, in eval mode. None: the weights that ship."""
    network = Embedder()
    network.load_state_dict({k: v.float() for k, v in load_file(weights or WEIGHTS).items()})
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@cache
def _shipped() -> Embedder:
    return load()


def letterbox(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """An RGB or RGBA picture centred on `BACKDROP`, uint8 (side, side, 3)."""
    room = side * (1 - 2 * MARGIN)
    scale = room / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas = Image.new("RGB", (side, side), BACKDROP)
    canvas.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2), image if image.mode == "RGBA" else None)
    return np.asarray(canvas)


def _with_alpha_or_without(image: Image.Image) -> Image.Image:
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return image.convert("RGBA" if clear else "RGB")


def _readings(image: Image.Image) -> list[Image.Image]:
    """The pictures whose vectors' mean stands for this one: itself, lifted off its background, or both when unsure."""
    image = _with_alpha_or_without(image)
    lifted = lift(image) if image.mode == "RGB" else None
    if lifted is None:
        return [image]
    return [lifted.picture] if lifted.certain else [image, lifted.picture]


def embed(images: Sequence[Image.Image], network: nn.Module | None = None) -> np.ndarray:
    """Unit vectors, float32 (n, DIMENSION). No pictures give an empty array of the right width."""
    readings = [_readings(image) for image in images]
    raw = _forward([letterbox(reading) for of_one in readings for reading in of_one], network or _shipped())
    ends = np.cumsum([0, *map(len, readings)])
    vectors = np.zeros((len(images), DIMENSION), np.float32)
    for i, (start, end) in enumerate(itertools.pairwise(ends)):
        vectors[i] = raw[start:end].mean(0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _forward(pixels: Sequence[np.ndarray], network: nn.Module) -> np.ndarray:
    vectors = [np.zeros((0, DIMENSION), np.float32)]
    for start in range(0, len(pixels), BATCH):
        with torch.inference_mode():
            vectors.append(network(normalised(np.stack(pixels[start : start + BATCH]))).numpy())
    return np.concatenate(vectors)


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (n, side, side, 3) -> what the network takes."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return batch.contiguous(memory_format=torch.channels_last)


@cache
def fingerprint() -> str:
    """Short hash of the weights that ship and of how pictures are laid out before them."""
    digest = hashlib.sha256(WEIGHTS.read_bytes())
    digest.update(repr((SIDE, MARGIN, BACKDROP, DIMENSION, "bilinear, lifted")).encode())
    return digest.hexdigest()[:16]
