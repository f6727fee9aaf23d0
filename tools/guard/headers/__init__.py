"""Headers of pictures, read before a decoder sees any byte: how large, how many parts, how much memory.

Each format has a reader here. It walks the file's structure (segments, chunks, blocks, directories) under caps and
gives a `FirstPicture`: a file with the first picture alone, without metadata, and what decoding it will cost.

Invariant: the decoder gets the rebuilt file, so that nothing can be decoded that was not counted here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from lensgraph.tools.guard.headers import bmp, gif, jpeg, png, tiff, webp
from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture

__all__ = ["BadHeader", "Cut", "FirstPicture", "format_of", "read"]

_READERS: dict[str, Callable[[bytes], FirstPicture]] = {
    "PNG": png.read, "JPEG": jpeg.read, "WEBP": webp.read, "GIF": gif.read, "BMP": bmp.read, "TIFF": tiff.read,
}  # fmt: skip
_STARTS = {
    png.SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP", b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}  # fmt: skip


def format_of(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes tell; None for every format that is not let in."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _STARTS.items() if data.startswith(start)), None)


def read(data: bytes) -> FirstPicture:
    """The first picture of a file.

    Raises:
        BadHeader: it is no picture of these formats, a cut one (`Cut`), or one that must not be decoded.
    """
    name = format_of(data)
    if name is None:
        raise BadHeader("not a picture; give PNG, JPEG, WebP, GIF, BMP or TIFF.")
    try:
        return _READERS[name](data)
    except (Cut, struct.error, IndexError) as error:
        words = str(error) if isinstance(error, Cut) else "it ends too early"
        raise BadHeader(f"truncated or damaged {name} file ({words}); save it again.") from error
