"""Vector or bitmap artwork -> one small picture with alpha.

Invariant: the result is cut to the artwork's own outline (no transparent margin), keeps its aspect ratio, and is at
most `SIDE` pixels on its longer side, so that a picture pasted into a scene has exactly the box of what can be seen.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

SIDE = 128
"""Longest side of a stored picture, in pixels. Scenes show items at 40 to 120 pixels."""

_OVERSAMPLE = 3
_FAINT = 8  # alpha below this is the soft shadow's end, not the outline


def svg(text: str) -> Image.Image:
    """Render SVG text with transparency. Raises ValueError when nothing is visible."""
    import resvg_py  # only the builder needs it: a build dependency, not one of the package

    data: Any = resvg_py.svg_to_bytes(svg_string=text, width=SIDE * _OVERSAMPLE)
    return fit(Image.open(io.BytesIO(bytes(data))))


def bitmap(data: bytes) -> Image.Image:
    """Decode a bitmap from a package (webp, png) the same way."""
    return fit(Image.open(io.BytesIO(data)))


def fit(picture: Image.Image) -> Image.Image:
    """Cut to the visible outline and scale down to `SIDE`."""
    picture = picture.convert("RGBA")
    outline = picture.getchannel("A").point(lambda a: 255 if a >= _FAINT else 0).getbbox()
    if outline is None:
        raise ValueError("the artwork is fully transparent: check the source package")
    picture = picture.crop(outline)
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # premultiplied, so that the colour hidden under transparent pixels does not bleed into the edge
    return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def webp(picture: Image.Image, quality: int) -> bytes:
    """Encode with a lossy colour plane and a near-lossless alpha plane."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=quality, alpha_quality=90, method=6)
    return out.getvalue()
