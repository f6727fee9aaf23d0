"""A picture -> one unit vector, on a CPU, in milliseconds.

A picture on a plain background is read as its item (`cutout.lift`). Invariant: `embed` depends on the weights and on the
pixels composited over `BACKDROP` only, and `fingerprint` changes whenever its result can, so that vectors made by one
version are never compared with another's. Few pictures go through numpy, which a question has loaded anyway, many through
torch where it is installed, which is quicker once it is imported; the vectors are the same to five digits (tested).
Needs numpy and Pillow; knows nothing of indexes or of the world.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from lensgraph.tools.local.embedder import forward
from lensgraph.tools.local.embedder.cutout import lift
from lensgraph.tools.local.embedder.shape import DIMENSION, SIDE, WEIGHTS, Run

BACKDROP = (208, 208, 212)
"""What transparent pixels and the letterbox are filled with: a light grey no flag has."""
MARGIN = 0.04
"""Free border on each side of the letterboxed picture, as a share of the square."""
FEW = 8
"""Up to so many pictures numpy is used: importing torch takes as long as forty of them."""


def embed(images: Sequence[Image.Image], run: Run | None = None) -> np.ndarray:
    """Unit vectors, float32 (n, DIMENSION). No pictures give an empty array of the right width."""
    readings = [_readings(image) for image in images]
    if run is None:
        in_numpy = len(images) <= FEW or importlib.util.find_spec("torch") is None
        run = forward.shipped() if in_numpy else _in_torch()
    raw = run([letterbox(reading) for of_one in readings for reading in of_one])
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


def _in_torch() -> Run:
    run: Run = importlib.import_module("lensgraph.tools.local.embedder.network").shipped()
    return run
