"""WebP: the canvas, and the frames inside it.

Pillow decodes every WebP as an animation: three canvases beside its own picture. A lossless part may bring a Huffman code for
every 4 x 4 pixels, at most 65,536 of them. Their tables
take up to a gigabyte: 920 MB and 2.9 s measured for a file of 0.7 MB and 1 million pixels.
"""

from __future__ import annotations

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture, orientation

MAX_CHUNKS = 10_000
"""Chunks of a file, one a frame of an animation."""
CANVAS_BYTES = 16
"""Bytes a pixel: two canvases of the animation, the bytes given to Pillow, and its picture."""
LOSSLESS_BYTES = 4
"""Further bytes a pixel while a lossless part is decoded."""
MAX_CODES = 65_536
"""Huffman codes of a lossless part: their number has 16 bits."""
CODE_BYTES = 20_600
"""Memory of the largest code of libwebp: 5,004 entries of four bytes, and its group."""
CODE_RATIO = 1_600
"""Most bytes of tables that one byte of the file can ask for: a group of the smallest codes takes 3.75 and gives 5,700."""


def read(data: bytes) -> FirstPicture:
    """The first frame on its canvas."""
    end_of_file = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    kept: list[bytes] = []
    exif = xmp = b""
    canvas: tuple[int, int] | None = None
    alpha, frames, lossless = False, 0, 0
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > end_of_file:
            break
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start, end = position + 8, position + 8 + length + length % 2
        if kind == b"VP8X" and canvas is None:
            canvas, alpha = _canvas(data[start : start + 10]), bool(data[start] & 0x10)
            kept.append(data[position:start] + bytes((data[start] & 0x12,)) + data[start + 1 : end])
        elif kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF") and frames == 0:
            size, sees_through, codes = _pixels(kind, data[start : min(end, end_of_file)])
            canvas = canvas or size
            if size is not None and (size[0] > canvas[0] or size[1] > canvas[1]):  # type: ignore[index]
                raise BadHeader("a WebP frame larger than its canvas; save it again.")
            frames, lossless, alpha = int(kind != b"ALPH"), max(lossless, codes), alpha or sees_through
            kept.append(data[position:end])
        elif kind == b"ANIM" and canvas is not None:
            kept.append(data[position:end])
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = exif or data[start:end].removeprefix(b"Exif\0\0")
        elif kind == b"XMP ":
            xmp = xmp or data[start:end]
        position = end
    else:
        raise BadHeader(f"over {MAX_CHUNKS:,} chunks in one WebP file; save one frame.")
    if canvas is None or frames == 0:
        raise Cut("no frame in it")
    body = b"WEBP" + b"".join(kept)
    pixels = canvas[0] * canvas[1]
    memory = (CANVAS_BYTES + (LOSSLESS_BYTES if lossless else 0)) * pixels
    return FirstPicture(
        "WEBP", *canvas, b"RIFF" + len(body).to_bytes(4, "little") + body, memory,
        orientation(exif, xmp), frames == 1 and b"ANIM" not in {part[:4] for part in kept}, not (exif or xmp), not alpha,
        code_bytes=_code_bytes(pixels, lossless),
    )  # fmt: skip


def _canvas(body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        raise Cut("the header is cut")
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _pixels(kind: bytes, body: bytes) -> tuple[tuple[int, int] | None, bool, int]:
    """Size of a chunk of pixels, if it says one, whether it is transparent, and the bytes of its lossless part."""
    if kind == b"VP8 ":
        if len(body) < 10:
            raise Cut("a frame is cut")
        return (
            (int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF), False, 0
        )  # fmt: skip
    if kind == b"VP8L":
        if len(body) < 5:
            raise Cut("a frame is cut")
        bits = int.from_bytes(body[1:5], "little")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1), len(body)
    if kind == b"ALPH":
        return None, True, len(body) if body and body[0] & 3 else 0
    if len(body) < 16:
        raise Cut("a frame is cut")
    x, y, width, height = (int.from_bytes(body[at : at + 3], "little") for at in (0, 3, 6, 9))
    is_lossy = body[16:20] == b"VP8 "  # behind a chunk ALPH it is not looked for, and counted as lossless
    return (2 * x + width + 1, 2 * y + height + 1), False, 0 if is_lossy else len(body)


def _code_bytes(pixels: int, size: int) -> int:
    """Most memory that the codes of a lossless part of `size` bytes can take."""
    return min(CODE_BYTES * min(MAX_CODES, pixels // 16 + 1), CODE_RATIO * size)
