"""TIFF: the first directory, of plain scans and photographs.

The decoder gets a directory written here, with the checked fields alone and no successor. Left out are BigTIFF, JPEG or
WebP inside TIFF, and the other exotic codecs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture

MAX_PAGES = 1_000
"""Directories that are followed; Pillow's time grows with the square of their number."""
MAX_ENTRIES = 512
"""Entries of a directory; scanners write about 20."""
MAX_VALUES = 100_000
"""Values of one field: strips of the largest picture, one a row."""
PADDING = 4
"""Tiles may cover so many times the picture's area, or `SMALL` pixels."""
SMALL = 1_048_576

_TYPES = {1: 1, 3: 2, 4: 4}
"""Types of the fields below that are let in, and bytes of a value: byte, short, long."""
_PLAIN = frozenset((256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339,
    530))  # fmt: skip
"""Fields that say how pixels are stored: size, bits, codec, colours, strips, tiles, predictor, palette."""
_ORIENTATION = 274
_DESCRIBING = frozenset((34665, 700))
"""EXIF and XMP."""
_CODECS = frozenset((1, 2, 3, 4, 5, 8, 32946, 32773))
"""None, fax, LZW, deflate (two numbers) and PackBits."""

_Fields = dict[int, tuple[int, tuple[int, ...]]]


def read(data: bytes) -> FirstPicture:
    """The first page, after all pages' directories were counted."""
    mark: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    first, pages = _walk(data, mark)
    fields = _fields(data, mark, first)

    def one(tag: int, otherwise: int) -> int:
        return fields[tag][1][0] if tag in fields else otherwise

    width, height, channels = one(256, 0), one(257, 0), one(277, 1)
    bits = max(fields[258][1]) if 258 in fields else 1
    if not (width and height and 1 <= channels <= 6 and bits in (1, 2, 4, 8, 16, 32)):
        raise Cut("the directory contradicts itself")
    if one(259, 1) not in _CODECS:
        raise BadHeader(f"a TIFF packed by codec {one(259, 1)}, which is not read; save it as PNG or with LZW.")
    part_bytes = _part_bytes(one, width, height, bits * channels)
    lengths = fields.get(325 if 322 in fields else 279)
    if sum(lengths[1]) > len(data) if lengths else one(259, 1) != 1:
        raise BadHeader("TIFF strips that overlap or have no length; save it again.")
    raw = -(-width * bits * channels // 8) * height
    turned = one(_ORIENTATION, 1)
    bare = not (_DESCRIBING & fields.keys())
    stored = {tag: value for tag, value in fields.items() if tag in _PLAIN}
    if len(data) % 2:
        data += b"\0"
    rebuilt = b"".join(
        (data[:4], struct.pack(mark + "I", len(data)), memoryview(data)[8:], _directory(stored, mark, len(data)))
    )
    memory = 8 * width * height + part_bytes  # libtiff converts some kinds to RGBA first
    return FirstPicture(
        "TIFF", width, height, rebuilt, memory, turned if 1 <= turned <= 8 else 1, pages == 1, bare,
        raw_bytes=max(raw, part_bytes),
    )  # fmt: skip


def _walk(data: bytes, mark: str) -> tuple[int, int]:
    """Offset of the first directory, and the number of directories."""
    if len(data) < 8:
        raise Cut("the header is cut")
    first: int
    (first,) = struct.unpack_from(mark + "I", data, 4)
    seen: set[int] = set()
    position = first
    while position:
        if position in seen or len(seen) >= MAX_PAGES:
            raise BadHeader(f"over {MAX_PAGES:,} TIFF directories, or a circle of them; save one page.")
        seen.add(position)
        if position + 2 > len(data):
            raise Cut("a directory is cut")
        (count,) = struct.unpack_from(mark + "H", data, position)
        end = position + 2 + 12 * count
        if count == 0 or count > MAX_ENTRIES or end > len(data):
            raise BadHeader(f"a TIFF directory of {count:,} entries or cut short; save one page again.")
        position = struct.unpack_from(mark + "I", data, end)[0] if end + 4 <= len(data) else 0
    if not seen:
        raise Cut("no picture in it")
    return first, len(seen)


def _fields(data: bytes, mark: str, position: int) -> _Fields:
    """The fields that are needed, with their values; the first of two with one tag."""
    fields: _Fields = {}
    (count,) = struct.unpack_from(mark + "H", data, position)
    for at in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(mark + "HHI", data, at)
        if tag in _DESCRIBING:
            fields.setdefault(tag, (1, (0,)))
        elif (tag in _PLAIN or tag == _ORIENTATION) and tag not in fields:
            if kind not in _TYPES or not 1 <= number <= MAX_VALUES:
                raise Cut("a field has an odd type or too many values")
            size = number * _TYPES[kind]
            start = at + 8 if size <= 4 else struct.unpack_from(mark + "I", data, at + 8)[0]
            if start + size > len(data):
                raise Cut("a field is cut")
            fields[tag] = kind, struct.unpack_from(f"{mark}{number}{' BxHI'[kind]}", data, start)
    return fields


def _part_bytes(one: Callable[[int, int], int], width: int, height: int, bits: int) -> int:
    """Bytes of one unpacked strip or tile."""
    across, down = one(322, 0), one(323, 0)
    if not (across or down):
        return -(-width * bits // 8) * min(one(278, height) or height, height)
    if not (across and down):
        raise Cut("tiles without a size")
    if -(-width // across) * across * -(-height // down) * down > max(PADDING * width * height, SMALL):
        raise BadHeader(f"TIFF tiles of {across}x{down} pixels behind a picture of {width}x{height}; save it again.")
    return -(-across * bits // 8) * down


def _directory(fields: _Fields, mark: str, position: int) -> bytes:
    """A directory of these fields for the given place in the file, without a successor."""
    entries, values = [], b""
    behind = position + 2 + 12 * len(fields) + 4
    for tag, (kind, numbers) in sorted(fields.items()):
        packed = struct.pack(f"{mark}{len(numbers)}{' BxHI'[kind]}", *numbers)
        if len(packed) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack(mark + "I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        entries.append(struct.pack(mark + "HHI", tag, kind, len(numbers)) + place)
    return struct.pack(mark + "H", len(fields)) + b"".join(entries) + b"\0\0\0\0" + values
