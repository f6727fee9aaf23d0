"""The embedder that ships: a picture -> one unit vector, in numpy on a CPU.

A picture on a plain background is read as its item (`cutout.lift`).

Invariant: a vector depends only on the weights and on the pixels composited over `BACKDROP`, and `fingerprint` changes
whenever a vector can, so that vectors of one version are never compared with another's.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image

from lensgraph.tools.local.embedder import numpy_network
from lensgraph.tools.local.embedder.cutout import lift
from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.embedder.numpy_network import DIMENSION, SIDE, WEIGHTS

BACKDROP = (208, 208, 212)
"""Colour of transparent pixels and of the letterbox: a light grey that no flag has."""
MARGIN = 0.04
"""Free border on each side of the letterboxed picture, as a share of the square."""

Run = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Letterboxed pictures, uint8 (side, side, 3), through a network: one row each."""


class ShippedEmbedder(ImageEmbedder):
    """The shipped network: small, quick on a CPU, made for drawings and flags, not trained on photographs."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return DIMENSION

    @property
    def fingerprint(self) -> str:
        """Hash of weights and preprocessing."""
        return fingerprint()

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """One unit row a picture."""
        return embed(pictures)


def embed(images: Sequence[Image.Image], run: Run | None = None) -> np.ndarray:
    """Unit vectors, float32 (n, DIMENSION); no pictures give an empty array of that width.

    `run`: the network; None: the one that ships. Training passes its own.
    """
    readings = [_readings(image) for image in images]
    raw = (run or numpy_network.shipped())([letterbox(reading) for of_one in readings for reading in of_one])
    ends = np.cumsum([0, *map(len, readings)])
    vectors = np.zeros((len(images), DIMENSION), np.float32)
    for i, (start, end) in enumerate(itertools.pairwise(ends)):
        vectors[i] = raw[start:end].mean(0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@cache
def fingerprint() -> str:
    """Short hash of the weights that ship and of how pictures are laid out before them."""
    digest = hashlib.sha256(WEIGHTS.read_bytes())
    digest.update(repr((SIDE, MARGIN, BACKDROP, DIMENSION, "bilinear, lifted")).encode())
    return digest.hexdigest()[:16]


def letterbox(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """An RGB or RGBA picture centred on `BACKDROP`, uint8 (side, side, 3)."""
    room = side * (1 - 2 * MARGIN)
    scale = room / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas = Image.new("RGB", (side, side), BACKDROP)
    canvas.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2), image if image.mode == "RGBA" else None)
    return np.asarray(canvas)


def _readings(image: Image.Image) -> list[Image.Image]:
    """The pictures whose mean vector stands for this one: itself, lifted off its background, or both when unsure."""
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    image = image.convert("RGBA" if clear else "RGB")
    lifted = None if clear else lift(image)
    if lifted is None:
        return [image]
    return [lifted.picture] if lifted.certain else [image, lifted.picture]
