"""safetensors files read with numpy alone.

`safetensors.numpy` has no bfloat16, and `safetensors.torch` costs the import of torch. The format is a length, a JSON table
and the numbers. Invariant: the arrays are writable and the caller's own; all but integers are float32.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1"}
"""Element types that a checkpoint may have, and the numpy types that read them."""
_LENGTH = 8  # bytes of the number that gives the length of the table


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file, by name.

    Raises:
        OSError: the file is no safetensors file or is damaged; the message is one line.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= size - _LENGTH:
            raise OSError(f"{path}: no safetensors file, or cut off; copy or download it again")
        try:
            table: dict[str, Any] = json.loads(file.read(length))
            table.pop("__metadata__", None)
            places = {name: (at["dtype"], tuple(at["shape"]), *at["data_offsets"]) for name, at in table.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OSError(f"{path}: its table of tensors cannot be read; copy or download it again") from error
        return {name: _read(path, file, _LENGTH + length, name, *place) for name, place in places.items()}


def _read(
    path: Path, file: BinaryIO, begin: int, name: str, kind: str, shape: tuple[int, ...], first: int, last: int
) -> np.ndarray:
    if kind not in KINDS:
        raise OSError(f"{path}: {name} is of type {kind}; save the checkpoint in one of {', '.join(KINDS)}")
    dtype = np.dtype(KINDS[kind])
    count = math.prod(shape)
    file.seek(begin + first)
    numbers = np.fromfile(file, dtype, count) if last - first == count * dtype.itemsize else np.empty(0, dtype)
    if len(numbers) != count:
        raise OSError(f"{path}: {name} is cut off; copy or download the file again")
    numbers = numbers.reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        wide = numbers.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return numbers.astype(np.float32, copy=False) if dtype.kind == "f" else numbers
