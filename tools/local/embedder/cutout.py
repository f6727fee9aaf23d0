"""Lift an item off a plain background, so that where and on what it stands does not matter.

Invariant: a picture is changed only when its whole border is one colour, give or take texture; the item keeps its pixels.
Not covered: photographs, and backgrounds with objects; there the picture is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

_SIDE = 128  # the mask is found on a copy of this size
_TOLERANCE = 48.0  # Euclidean, in 0..255 RGB: more than a soft gradient, less than two colours of a palette
_PLAIN = 0.96  # share of the border that must be of the one colour
_RECTANGLE = 0.93  # share of its box that a rectangular item covers


@dataclass(frozen=True)
class Lifted:
    """An item without its background."""

    picture: Image.Image
    """RGBA, cut to the item."""
    certain: bool
    """True for a rectangle inside the picture: nothing was lost. False when the "background" could be part of the item,
    as the white of Japan's flag is."""


def lift(picture: Image.Image) -> Lifted | None:
    """The item of an opaque RGB picture, or None when there is no plain background to take away."""
    scale = min(1.0, _SIDE / max(picture.size))
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pixels = np.asarray(small, dtype=np.float32)
    ring = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    colour = np.median(ring, axis=0)
    if np.mean(np.linalg.norm(ring - colour, axis=1) < _TOLERANCE) < _PLAIN:
        return None
    item = ~_reached(np.linalg.norm(pixels - colour, axis=2) < _TOLERANCE)
    rows, columns = np.flatnonzero(item.any(1)), np.flatnonzero(item.any(0))
    if len(rows) < 4 or len(columns) < 4:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    fill = float(item[top:bottom, left:right].mean())
    alpha = Image.fromarray((item * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    lifted = picture.convert("RGBA")
    if fill < _RECTANGLE:
        lifted.putalpha(alpha)
    box = (int(left / scale), int(top / scale), max(int(right / scale), 1), max(int(bottom / scale), 1))
    return Lifted(lifted.crop(box), certain=fill >= _RECTANGLE)


def _reached(free: np.ndarray) -> np.ndarray:
    """Free pixels connected to the border through free pixels."""
    reach = np.zeros_like(free)
    reach[0], reach[-1], reach[:, 0], reach[:, -1] = free[0], free[-1], free[:, 0], free[:, -1]
    for _ in range(4):  # sweeps there and back; spirals deeper than that do not matter
        before = int(reach.sum())
        for _ in range(2):
            for line in range(1, len(free)):
                reach[line] |= free[line] & reach[line - 1]
                reach[-1 - line] |= free[-1 - line] & reach[-line]
            free, reach = free.T, reach.T
        if int(reach.sum()) == before:
            break
    return reach
