"""The sizes at which a Qwen-VL model sees a picture, needed to map its boxes to pixels of the original.

A picture reaches the model smaller than it is: first the agent shrinks it to its cap, then the model's processor scales it to
whole tokens. Qwen2.5-VL writes boxes in pixels of what came out of that; Qwen3-VL in thousandths of each side.
"""

from __future__ import annotations

import math

from lensgraph.tools.guard import MAX_STRETCH


def scaled(width: int, height: int, *, factor: int, least: int, most: int) -> tuple[int, int]:
    """The size a Qwen-VL processor scales a picture to: whole tokens of `factor` pixels a side, `least` to `most` pixels in
    all, about the same shape.

    Raises:
        ValueError: the picture is a sliver.
    """
    if max(height, width) / min(height, width) > MAX_STRETCH:
        raise ValueError(f"a picture of {width} x {height} is too long; its sides may differ {MAX_STRETCH}-fold")
    wide, high = round(width / factor) * factor, round(height / factor) * factor
    if high * wide > most:
        shrink = math.sqrt((height * width) / most)
        high = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif high * wide < least:
        grow = math.sqrt(least / (height * width))
        high, wide = math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return wide, high


def shrunk(width: int, height: int, most: int) -> tuple[int, int]:
    """The size of a picture after it was shrunk to at most `most` pixels."""
    return resized(width, height, math.sqrt(most / (width * height))) if width * height > most else (width, height)


def resized(width: int, height: int, scale: float) -> tuple[int, int]:
    """The size of a scaled picture. Fractions are cut off, as the published rollouts do, unless that made a sliver of it."""
    width, height = int(width * scale), int(height * scale)
    least = max(1, math.ceil(max(width, height) / MAX_STRETCH))
    return max(least, width), max(least, height)
