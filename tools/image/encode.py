"""A picture as the bytes that are sent to a service."""

from __future__ import annotations

import io

from PIL import Image

QUALITIES = (90, 80, 70)
"""JPEG qualities tried, best first, before the picture is made smaller."""


def jpeg(image: Image.Image, *, longest: int, max_bytes: int) -> bytes:
    """The picture as JPEG, its longer side at most `longest` pixels and the file at most `max_bytes`. No metadata goes out."""
    small = image.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    while True:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= max_bytes or small.size == (1, 1):
                return buffer.getvalue()
        small = small.resize((max(1, small.width * 3 // 4), max(1, small.height * 3 // 4)), Image.Resampling.LANCZOS)
