"""The key of a question: two questions with equal or nearly equal keys get one answer.

- Words: equal after Unicode composition (NFC), lower case and single spaces; nothing else is ignored.
- Addresses, expressions and other text: equal to the letter.
- Pictures that are searched with: equal pixels after decoding (upright RGB), whatever the file format or its metadata; or,
  unless `near_pictures` is off, nearly equal ones: the same shape, sides that differ by a twentieth at most, and a sketch
  (brightness in cells of about 4 pixels, colour in cells of 8) that differs nowhere by more than `NEAR`. That is the same
  picture saved or scaled again. `python tests/checks pictures` measures which copies are recognised, that no two
  different drawings, scenes or crops of the embedded world are merged, and how small print may be before two pages become
  one. Pictures with a side above `SKETCHED` pixels, whose cells would be larger, match by their pixels only.
- Pictures in which something is located: equal pixels only, for the answer holds coordinates.
- The tool: see `identity`.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from dataclasses import dataclass

from PIL import Image

NEAR = 8
"""Largest difference, of 255, between the sketches of nearly equal pictures. Measured on the embedded world: the closest two
different pictures differ by twice as much, nearly all that were saved again (quality 75 and up) or scaled by 2 % by less."""
CELL = 4
"""Side of a cell in pixels, times 0.7 to 1.4: the number of cells is a power of two, so that a slightly larger copy has as
many. Cells of 8 recognise more copies and miss a digit that changed in print of 14 pixels."""
CELLS = (8, 256)
"""Fewest and most cells along a side."""
SKETCHED = 1448
"""Longest side of a picture with a sketch, in pixels: beyond it, 256 cells are too few."""
SCALED = 0.05
"""Largest relative difference between the sides of nearly equal pictures."""


@dataclass(frozen=True)
class Question:
    """A question in the form in which it is compared."""

    key: str
    """Equal for equal questions."""
    size: tuple[int, int] | None = None
    """Width and height of a picture that nearly equal ones may match. None: no such picture."""
    sketch: bytes | None = None
    """The sketch of such a picture."""


def words(text: str) -> Question:
    """The key of a query."""
    return Question("words:" + " ".join(unicodedata.normalize("NFC", text).lower().split()))


def exact(*texts: str) -> Question:
    """The key of texts in which every letter counts, such as an address."""
    return Question("exact:" + json.dumps(texts))


def picture(image: Image.Image, *, near: bool = False) -> Question:
    """The key of an upright RGB picture. `near`: nearly equal ones count as the same."""
    key = f"picture:{_pixels(image)}"
    return Question(key, image.size, sketch(image)) if near else Question(key)


def picture_and(image: Image.Image, *texts: str) -> Question:
    """The key of a picture and an expression to find in it. Equal pixels only: the answer holds coordinates."""
    return Question(f"place:{_pixels(image)}:{json.dumps(texts)}")


def _pixels(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


def sketch(image: Image.Image) -> bytes | None:
    """Means of overlapping cells, as many along the width as along the height: brightness, then the two colour channels at
    half the resolution. None: the picture has a side above `SKETCHED`.

    The cells overlap (a triangle filter), because cells with hard edges fall on other pixels once the picture is scaled.
    """
    longest = max(image.size)
    if longest > SKETCHED:
        return None
    count = min(CELLS[1], max(CELLS[0], 2 ** round(math.log2(longest / CELL))))
    brightness, blue, red = image.convert("YCbCr").split()
    parts = ((brightness, count), (blue, count // 2), (red, count // 2))
    return b"".join(part.resize((n, n), Image.Resampling.BILINEAR).tobytes() for part, n in parts)


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size may be the other scaled a little: of one aspect ratio, up to the rounding of a side to a pixel."""
    (w1, h1), (w2, h2) = one, other
    near = all(abs(a - b) <= SCALED * max(a, b) + 1 for a, b in ((w1, w2), (h1, h2)))
    return near and abs(w1 * h2 - w2 * h1) <= max(w1, h1, w2, h2)


def difference(one: bytes, other: bytes) -> int:
    """The largest difference between two sketches; 255 if they differ in their number of cells."""
    if len(one) != len(other):
        return 255
    import numpy as np  # only nearly equal pictures need it

    a, b = np.frombuffer(one, np.uint8).astype(np.int16), np.frombuffer(other, np.uint8).astype(np.int16)
    return int(np.abs(a - b).max(initial=0))
