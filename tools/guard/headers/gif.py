"""GIF: blocks up to the end of the first frame."""

from __future__ import annotations

from lensgraph.tools.guard.headers.first import BadHeader, Cut, FirstPicture

MAX_BLOCKS = 300_000
"""Blocks read up to the end of the first frame: 64 MiB of them as encoders write them, 255 bytes each."""


def read(data: bytes) -> FirstPicture:
    """The first frame, with the colours and the transparency it is shown with."""
    if len(data) < 13:
        raise Cut("the header is cut")
    screen = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    position = 13 + _palette_bytes(data[10])
    kept, control, left = [data[:position]], b"", MAX_BLOCKS
    while data[position : position + 1] == b"!":
        end, left = _blocks_end(data, position + 2, left)
        if data[position + 1 : position + 2] == b"\xf9":
            control = data[position:end]
        position = end
    if data[position : position + 1] != b"," or position + 10 > len(data):
        raise Cut("no frame in it")
    x, y, width, height = (int.from_bytes(data[at : at + 2], "little") for at in range(position + 1, position + 9, 2))
    end, left = _blocks_end(data, position + 11 + _palette_bytes(data[position + 9]), left)
    size = max(screen[0], x + width), max(screen[1], y + height)  # a frame may reach beyond the screen
    if not (width and height and size[0] and size[1]):
        raise Cut("its size is zero")
    return FirstPicture(
        "GIF", *size, b"".join([*kept, control if len(control) == 8 else b"", data[position:end], b";"]),
        5 * size[0] * size[1], still=data[end : end + 1] in (b";", b""),
    )  # fmt: skip


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, position: int, left: int) -> tuple[int, int]:
    """The position behind a chain of blocks, which an empty one ends, and how many blocks are left of the allowed ones."""
    while position < len(data):
        if left == 0:
            raise BadHeader(f"over {MAX_BLOCKS:,} blocks before the end of the first frame; save it again.")
        left -= 1
        length = data[position]
        position += 1 + length
        if length == 0:
            return position, left
    return len(data), left
