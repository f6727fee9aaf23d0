"""BMP: uncompressed pixels only, all of which must be there."""

from __future__ import annotations

import struct

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture

_BITS = (1, 2, 4, 8, 16, 24, 32)


def read(data: bytes) -> FirstPicture:
    """The picture as it is; run-length coding is not let in, because Pillow decodes it in Python, a run at a time."""
    if len(data) < 26:
        raise Cut("the header is cut")
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif size in (40, 52, 56, 64, 108, 124) and len(data) >= 14 + size:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise Cut("the header is cut or unknown")
    height = abs(height)
    if width <= 0 or height == 0 or bits not in _BITS:
        raise Cut("the header contradicts itself")
    if compression not in (0, 3, 6):
        raise BadHeader("a compressed BMP; save it as PNG.")
    if offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise Cut("pixels are missing")
    return FirstPicture("BMP", width, height, data, 4 * width * height)
