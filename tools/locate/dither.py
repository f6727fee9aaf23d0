"""Undo what a small palette did to a picture: neighbouring pixels of two colours that together look like a third one.

A GIF holds 256 colours, and many programs take fixed ones, far apart, and mix them pixel by pixel. To measures of flat and
pure colour such a picture is noise. Here the mixture is averaged again, without washing out edges. Invariant: a picture of more
colours than a palette holds, or without such a mixture, is returned as it is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

PALETTE = 256
"""Most colours of a palette."""
STEP = 55
"""Two colours that were mixed differ by no more than this in a channel: the six steps of the usual palette are 51 apart."""
CLEAR = 30
"""Neighbours that differ by more than this in a channel were not next to each other by a soft edge or fine noise."""
RESTLESS = 0.1
"""Share of pixels that differ clearly from three of their four neighbours from which a picture counts as mixed. Scenes
of the world with up to 256 colours of their own stay under 0.03, those mixed from the usual palette are above 0.3."""
SAMPLE = 512
"""Side of the part in the middle that is looked at."""
REACH = 2
"""Averages are over squares of this radius."""


def is_dithered(picture: Image.Image) -> bool:
    """Whether an RGB picture has few colours and mixes them pixel by pixel."""
    return picture.getcolors(PALETTE) is not None and restless(picture) > RESTLESS


def restless(picture: Image.Image) -> float:
    """The share of pixels that differ clearly from at least three of their four neighbours, in the middle of the picture."""
    x, y = max(0, (picture.width - SAMPLE) // 2), max(0, (picture.height - SAMPLE) // 2)
    part = picture.crop((x, y, min(picture.width, x + SAMPLE), min(picture.height, y + SAMPLE)))
    pixels = np.asarray(part).astype(np.int16)
    if min(part.size) < 3:
        return 0.0
    middle = pixels[1:-1, 1:-1]
    around = (pixels[:-2, 1:-1], pixels[2:, 1:-1], pixels[1:-1, :-2], pixels[1:-1, 2:])
    differ = sum((np.abs(middle - other).max(axis=-1) > CLEAR).astype(np.int8) for other in around)
    return float(np.mean(differ >= 3))


def mixed(picture: Image.Image) -> Image.Image:
    """The picture with each pixel replaced by the average of those around it that may be part of the same mixture: those within
    `STEP` of what it looks like from a little farther away."""
    height, width = picture.height, picture.width
    seen = np.asarray(picture.filter(ImageFilter.BoxBlur(1))).astype(np.float32)
    padded = np.pad(np.asarray(picture).astype(np.float32), ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    total, count = np.zeros_like(seen), np.zeros((height, width, 1), np.float32)
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            other = padded[down : down + height, across : across + width]
            like = np.abs(other - seen).max(axis=-1, keepdims=True) <= STEP
            total += other * like
            count += like
    average = np.where(count > 0, total / np.maximum(count, 1), seen)
    return Image.fromarray(average.round().astype(np.uint8))
