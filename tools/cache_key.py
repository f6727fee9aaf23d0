"""When two questions to a tool are the same question, so that one answer serves both.

- Words: equal after Unicode composition (NFC), lower case and single spaces; nothing else is ignored.
- Addresses, expressions and other text: equal to the letter.
- Pictures: equal pixels after decoding (upright RGB), whatever the file format or its metadata.
- Nearly equal pictures, only where the cache is told so (`near_pictures`): the same width and height, and a sketch (mean
  brightness of blocks of 8 pixels, mean colour of blocks of 16, larger ones beyond 1024 pixels) that differs nowhere by more
  than `NEAR`. It recognises a picture that was saved again. On the embedded world it merges no two different pictures
  (`python -m tools cache pictures` measures it), but it cannot tell small print apart, which is why it is off.
- The tool: its class and every setting that can change an answer. Keys, clocks, prices and tries cannot, nor can a field that
  is declared with `exclude=True`.
"""

from __future__ import annotations

import enum
import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from PIL import Image
from pydantic import BaseModel
from pydantic.types import SecretBytes, SecretStr

NEAR = 8
"""Largest difference, of 255, between the sketches of nearly equal pictures. Measured on the embedded world: the closest
two different pictures differ by more than twice as much, a picture saved again as JPEG or WebP (quality 75 and up) by at
most this."""
BLOCK = 8
"""Pixels of a block's side in a sketch: JPEG keeps the mean of such a block almost exactly."""
SKETCH_PIXELS = 1024
"""Pictures with a longer side get larger blocks, so that a sketch stays below 25 kB."""
SECRET_NAMES = ("api_key", "apikey", "token", "secret", "password", "credential", "authorization")
"""Settings whose name holds one of these are not part of a key, whatever their type."""


@dataclass(frozen=True)
class Question:
    """What is asked, in the form in which it is compared."""

    key: str
    """Equal for equal questions."""
    size: tuple[int, int] | None = None
    """Width and height, if it is a picture that may also match nearly equal ones."""
    sketch: bytes | None = None
    """Such a picture's sketch."""


def words(text: str) -> Question:
    """A query."""
    return Question("words:" + " ".join(unicodedata.normalize("NFC", text).lower().split()))


def exact(*texts: str) -> Question:
    """Texts in which every letter counts, such as an address."""
    return Question("exact:" + json.dumps(texts))


def picture(image: Image.Image, *, near: bool = False) -> Question:
    """An upright RGB picture. `near`: nearly equal ones count as the same."""
    key = f"picture:{_pixels(image)}"
    return Question(key, image.size, sketch(image)) if near else Question(key)


def picture_and(image: Image.Image, *texts: str) -> Question:
    """A picture and what to find in it. Never nearly: the answer holds coordinates."""
    return Question(f"place:{_pixels(image)}:{json.dumps(texts)}")


def _pixels(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


def sketch(image: Image.Image) -> bytes:
    """Block means: brightness, then the two colour channels at half the resolution."""
    block = BLOCK * max(1, -(-max(image.size) // SKETCH_PIXELS))
    brightness, blue, red = image.convert("YCbCr").split()
    parts = (brightness.reduce(block), blue.reduce(2 * block), red.reduce(2 * block))
    return b"".join(part.tobytes() for part in parts)


def difference(one: bytes, other: bytes) -> int:
    """The largest difference between two sketches of pictures of one size; 255 if they cannot be compared."""
    if len(one) != len(other):
        return 255
    import numpy as np  # only nearly equal pictures need it

    a, b = np.frombuffer(one, np.uint8).astype(np.int16), np.frombuffer(other, np.uint8).astype(np.int16)
    return int(np.abs(a - b).max(initial=0))


def identity(tool: BaseModel, ignored: frozenset[str]) -> str:
    """What of a tool decides its answers, as text that is the same in every process."""
    return json.dumps(_plain(tool, ignored), sort_keys=True, ensure_ascii=True)


def _plain(value: Any, ignored: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if depth > 12:  # settings that hold themselves
        return "..."
    if isinstance(value, SecretStr | SecretBytes):
        return None
    if isinstance(value, BaseModel):
        declared = type(value).model_fields
        fields = {n: getattr(value, n, None) for n, field in declared.items() if n not in ignored and not field.exclude}
        return {"class": _name(type(value)), "fields": _plain(fields, depth=depth + 1)}
    if isinstance(value, Mapping):
        named = {str(name): item for name, item in value.items()}
        return {k: _plain(v, depth=depth + 1) for k, v in named.items() if not _is_secret(k)}
    if isinstance(value, list | tuple):
        return [_plain(item, depth=depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, depth=depth + 1) for item in value), key=repr)
    if isinstance(value, bytes | bytearray):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, type) or callable(value):
        return _name(value)
    return _name(type(value))  # an address in memory, as in most reprs, would differ from process to process


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in SECRET_NAMES)


def _name(thing: Any) -> str:
    kind = type(thing)
    name = getattr(thing, "__qualname__", kind.__qualname__)
    return f"{getattr(thing, '__module__', kind.__module__)}:{name}"
