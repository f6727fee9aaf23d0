"""The first picture of a file, as its checked header describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

ORIENTATION = 0x0112
"""EXIF tag that says how the stored pixels are turned."""
MAX_EXIF_ENTRIES = 512
"""Entries of an EXIF directory that are looked at; cameras write about 30."""

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


class BadHeader(ValueError):
    """A file that must not be decoded; the message completes the line "NAME: ..."."""


class Cut(BadHeader):
    """A file that ends, or stops making sense, before its picture begins."""


@dataclass(frozen=True)
class FirstPicture:
    """The task of the decoder, read from the bytes that it will read."""

    format: str
    """Pillow's name of the format."""
    width: int
    height: int
    data: bytes
    """A file of this one picture: other frames, pages and metadata are left out."""
    decode_bytes: int
    """Memory the decoder takes beside `data`, in bytes; the decoded picture is part of it."""
    orientation: int = 1
    """EXIF's orientation, 1 to 8; 1 is upright."""
    still: bool = True
    """Whether the file holds one picture only."""
    bare: bool = True
    """Whether the file holds neither EXIF nor XMP."""
    rgb: bool = False
    """Whether the pixels are red, green and blue without transparency."""
    raw_bytes: int = 0
    """Bytes that the pixels unpack to, where the format may store more than four bytes a pixel."""
    code_bytes: int = 0
    """Memory that a hostile file's codes may take beyond `decode_bytes`; honest files take little of it."""


def orientation(exif: bytes = b"", xmp: bytes = b"") -> int:
    """The orientation that EXIF (a TIFF header and its directory), or else XMP, names; 1 where neither does."""
    order = {b"II": "little", b"MM": "big"}.get(exif[:2])
    if order is not None:
        start = int.from_bytes(exif[4:8], order)  # type: ignore[arg-type]
        count = int.from_bytes(exif[start : start + 2], order)  # type: ignore[arg-type]
        for entry in range(start + 2, start + 2 + 12 * min(count, MAX_EXIF_ENTRIES), 12):
            if int.from_bytes(exif[entry : entry + 2], order) == ORIENTATION:  # type: ignore[arg-type]
                value = int.from_bytes(exif[entry + 8 : entry + 10], order)  # type: ignore[arg-type]
                return value if 1 <= value <= 8 else 1
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1
