"""Positions of tokens for the rotary embedding of Qwen2.5-VL: time, height and width (M-RoPE).

Invariant: positions of a prefix do not depend on what follows, so they can be cached with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mrope_positions(
    ids: Sequence[int], grids: Sequence[tuple[int, int, int]], image_pad: int, merge: int
) -> np.ndarray:
    """Rotary positions (3, tokens) of time, height and width: a text token adds one, a picture spans a grid.

    `grids` are (time, height, width) in patches; `merge` is the side, in patches, of the square that becomes one token.

    Raises:
        ValueError: the placeholders do not match the grids.
    """
    tokens = np.asarray(ids)
    out = np.empty((3, len(tokens)), dtype=np.int64)
    at, position = 0, 0
    starts = np.flatnonzero(tokens == image_pad)
    for time, height, width in grids:
        begin = next((int(s) for s in starts if s >= at), None)
        rows, columns = height // merge, width // merge
        size = time * rows * columns
        if begin is None or not np.all(tokens[begin : begin + size] == image_pad) or begin + size > len(tokens):
            raise ValueError(f"a picture of grid {(time, height, width)} has no {size} placeholders after token {at}")
        out[:, at:begin] = position + np.arange(begin - at)
        position += begin - at
        grid = np.indices((time, rows, columns)).reshape(3, -1)
        out[:, begin : begin + size] = position + grid
        position += max(height, width) // merge
        at = begin + size
    if np.any(tokens[at:] == image_pad):
        raise ValueError(f"{int(np.sum(tokens[at:] == image_pad))} placeholders have no picture")
    out[:, at:] = position + np.arange(len(tokens) - at)
    return out
