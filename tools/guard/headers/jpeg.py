"""JPEG (and MPO, several of them in a row): segments and scans.

A progressive picture is kept as coefficients until its last scan, and every scan visits each block of its components, however
few bytes it has. Both costs are computed from the headers of the frame and of all scans.
"""

from __future__ import annotations

import re

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture, orientation

MAX_SEGMENTS = 5_000
"""Segments before the first scan and between scans; a colour profile and XMP take some hundreds at most."""
MAX_SCAN_WORK = 800_000_000
"""Coefficients that all scans together may visit: 1 s. The usual ten scans of 50 million pixels visit 190 million."""
BLOCK_WORK = 6
"""Cost of one block of a scan without any coefficient, counted in coefficients."""

_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}
"""Frame headers that are let in, and whether they are progressive: not lossless, hierarchical or arithmetic ones."""
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a segment."""
_TABLES = frozenset((0xC4, 0xDB, 0xDD))
"""Huffman tables, quantisation tables, restart interval: the segments that decoding needs."""
_KNOWN = frozenset((*_FRAMES, *_TABLES, 0xDA, 0xDC, 0xFE, *range(0xE0, 0xF0)))
"""All segments that are let in; every other is a kind of JPEG that hides what it costs."""
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def read(data: bytes) -> FirstPicture:
    """The first picture, without the segments that only describe it."""
    kept: list[bytes] = [b"\xff\xd8"]
    frame = exif = xmp = b""
    progressive = still = True
    position = 2
    for _ in range(MAX_SEGMENTS):
        kind, start, end = _segment(data, position)
        body = data[start + 2 : end]
        if kind in _FRAMES:
            if frame:
                raise BadHeader("two frame headers in one JPEG picture; save it again.")
            frame, progressive = body, _FRAMES[kind]
        if kind in _FRAMES or kind in _TABLES or (kind in (0xE0, 0xEE) and len(body) < 100):
            kept.append(data[start - 2 : end])
        elif kind == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        elif kind == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or body
        elif kind == 0xE2 and body.startswith(b"MPF\0"):
            still = False
        elif kind == 0xD9:
            raise Cut("it ends before its pixels")
        elif kind == 0xDA:
            break
        position = end
    else:
        raise BadHeader(f"over {MAX_SEGMENTS:,} segments in one JPEG file; save it again.")
    width, height, components, blocks = _frame(frame)
    in_first = data[start + 2] if start + 2 < end else 0
    if progressive or in_first != len(components):
        last = _check_scans(data, start - 2, components)
        decoded = 4 * width * height + 128 * blocks
    else:
        last, decoded = len(data), 4 * width * height
    return FirstPicture(
        "JPEG", width, height, b"".join([*kept, memoryview(data)[start - 2 : last]]), decoded,
        orientation(exif, xmp), still, not (exif or xmp), len(components) == 3,
    )  # fmt: skip


def _segment(data: bytes, position: int) -> tuple[int, int, int]:
    """The next marker at or after `position`, and the start and end of its segment, its length included."""
    found = _MARKER.search(data, position)
    if found is None:
        raise Cut("no picture in it")
    kind, start = found[1][0], found.end()
    if kind in _BARE or kind in (0xD8, 0xD9):
        return kind, start, start
    if kind not in _KNOWN:
        raise BadHeader(f"a kind of JPEG that is not read (marker {kind:02X}); save it as ordinary JPEG or PNG.")
    end = start + int.from_bytes(data[start : start + 2], "big")
    if end < start + 2 or end > len(data):
        raise Cut("a segment is cut")
    return kind, start, end


def _frame(frame: bytes) -> tuple[int, int, dict[int, int], int]:
    """Width, height, blocks of each component by its id, and blocks altogether."""
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise Cut("the frame header is missing or cut")
    height, width, count = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    if frame[0] != 8 or count not in (1, 3, 4):
        raise BadHeader(f"a JPEG of {frame[0]} bits and {count} channels; save it with 8 bits, in RGB.")
    if width == 0 or height == 0:
        raise Cut("its size is zero")
    sampling = {frame[at]: (frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(6, 6 + 3 * count, 3)}
    if len(sampling) != count or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling.values()):
        raise Cut("the frame header contradicts itself")
    across = -(-width // (8 * max(h for h, _ in sampling.values())))
    down = -(-height // (8 * max(v for _, v in sampling.values())))
    blocks = {name: across * h * down * v for name, (h, v) in sampling.items()}
    return width, height, blocks, sum(blocks.values())


def _check_scans(data: bytes, position: int, blocks: dict[int, int]) -> int:
    """Add up the work of all scans; returns where the picture ends."""
    work = 0
    for _ in range(MAX_SEGMENTS):
        try:
            kind, start, end = _segment(data, position)
        except Cut:
            return len(data)  # the decoder meets the cut end as well
        if kind == 0xD9:
            return end
        if kind == 0xDA:
            scan = data[start + 2 : end]
            count = scan[0] if scan else 0
            if len(scan) != 4 + 2 * count:
                raise Cut("a scan header is cut")
            first, last, bits = scan[-3:]
            band = last - first + 1 if bits >> 4 and last >= first else 1
            work += sum(blocks.get(name, 0) for name in scan[1 : 1 + 2 * count : 2]) * (BLOCK_WORK + band)
            if work > MAX_SCAN_WORK:
                raise BadHeader("a progressive JPEG of too many scans; save it again.")
        position = end
    raise BadHeader(f"over {MAX_SEGMENTS:,} segments in one JPEG file; save it again.")
