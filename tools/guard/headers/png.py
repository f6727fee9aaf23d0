"""PNG and animated PNG: chunks."""

from __future__ import annotations

import zlib

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture, orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK_BYTES = 1_000
"""A file may have one chunk for so many of its bytes, beyond `MAX_CHUNKS`; encoders write 8,192 or more into one."""
MAX_CHUNKS = 2_000
"""Chunks that a file of any size may have."""
MAX_TEXT_CHUNK, MAX_TEXT_BYTES = 1024 * 1024, 32 * 1024 * 1024
"""Bytes that one packed text or colour profile, and all of a file, may unpack to; none of them reaches the decoder."""

_PACKED = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0", b"iCCP": b"\0\0"}
"""Chunks that may hold packed bytes, and what stands between their keyword and those bytes (iTXt has two words more)."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def read(data: bytes) -> FirstPicture:
    """The picture that a viewer without animation shows: header, palette, transparency and pixels."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    view = memoryview(data)
    exif = xmp = header = b""
    seen: set[bytes] = set()
    text_left = MAX_TEXT_BYTES
    position, allowed = len(SIGNATURE), MAX_CHUNKS + len(data) // CHUNK_BYTES
    for _ in range(allowed):
        length, kind = int.from_bytes(view[position : position + 4], "big"), bytes(view[position + 4 : position + 8])
        start, end = position + 8, position + 12 + length
        if not header and kind != b"IHDR":
            raise Cut("the header is missing")
        if kind == b"IHDR" and not header:
            header = data[start : start + length]
        elif kind == b"eXIf":
            exif = exif or data[start : start + length]
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", start):
            xmp = xmp or data[start : start + length]
        if kind in _PACKED:
            text_left -= _unpacked_bytes(kind, data[start : start + length], text_left)
        if kind == b"IDAT" or (kind in (b"IHDR", b"PLTE", b"tRNS") and kind not in seen):
            kept.append(view[position:end])
        seen.add(kind)
        if kind == b"IEND" or end >= len(data):
            break
        position = end
    else:
        raise BadHeader(f"over {allowed:,} chunks in one PNG file; save it again.")
    if kind == b"IEND":
        kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    width, height, raw = _size(header)
    plain = header[9] == 2 and b"tRNS" not in seen
    return FirstPicture(
        "PNG", width, height, b"".join(kept), 4 * width * height, orientation(exif, xmp), b"acTL" not in seen, not (exif or xmp),
        plain, raw,
    )  # fmt: skip


def _unpacked_bytes(kind: bytes, body: bytes, left: int) -> int:
    """Bytes that the text or profile of a chunk unpacks to."""
    _, mark, packed = body.partition(_PACKED[kind])
    if kind == b"iTXt":
        packed = packed.partition(b"\0")[2].partition(b"\0")[2]
    if not mark:
        return 0
    try:
        count = len(zlib.decompressobj().decompress(packed, MAX_TEXT_CHUNK + 1))
    except zlib.error:  # nobody needs it, but trying took its time
        count = MAX_TEXT_CHUNK
    if count > min(left, MAX_TEXT_CHUNK):
        raise BadHeader("damaged, or more text beside the pixels than is read; save the picture again without it.")
    return count


def _size(header: bytes) -> tuple[int, int, int]:
    if len(header) != 13:
        raise Cut("the header is cut")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour = header[8], header[9]
    if width == 0 or height == 0 or depth not in _DEPTHS.get(colour, ()):
        raise Cut("the header contradicts itself")
    raw = -(-width * depth * _CHANNELS[colour] // 8) * height
    return width, height, raw
