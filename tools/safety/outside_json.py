"""JSON that somebody else wrote.

Invariant: whatever the text, the outcome is a value that can be walked, converted and written again, or a `ValueError`.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 64
"""Most levels of lists and objects within each other: the formats that are read here have ten, and every level costs a frame of
the stack wherever a value is walked."""
_DIGITS = 19
"""Most characters of a whole number: more do not fit into 64 bits, nor into a float without an error."""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. None stands for numbers that are none (`NaN`, `Infinity`) or too large to count with.

    Raises:
        ValueError: it is no JSON, or nested deeper than `DEEPEST`.
    """
    try:
        found = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_countable)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    level = [found]
    for _ in range(DEEPEST):
        level = [below for held in level for below in _children(held) if isinstance(below, dict | list)]
        if not level:
            return found
    raise ValueError("JSON that is nested too deep")


def _children(held: Any) -> Any:
    return held.values() if isinstance(held, dict) else held if isinstance(held, list) else ()


def _finite(written: str) -> float | None:
    number = float(written)
    return number if math.isfinite(number) else None


def _countable(written: str) -> int | None:
    return int(written) if len(written) <= _DIGITS else None
