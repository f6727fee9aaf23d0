"""Pictures decoded under caps: refused by size, shape and cost before decoding, and always returned as upright 8-bit RGB.

`headers` reads the structure of the file first and hands on the first picture alone; a picture costs at most `MAX_MEMORY`
and about 3 s of one core. Covered: pixel bombs, headers that differ from what is decoded (tiles, scans, frames, directories,
chunks), truncated and mislabelled files, animated, CMYK, 16-bit, palette, transparent and EXIF-rotated pictures. Not covered:
valid pictures with misleading content.
"""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, ImageOps

from lensgraph.tools.guard import data_uri, headers, isolated
from lensgraph.tools.guard.addresses import Refused
from lensgraph.tools.guard.bodies import PICTURE
from lensgraph.tools.guard.fetching import fetch
from lensgraph.tools.guard.headers import FirstPicture
from lensgraph.tools.guard.read_files import MAX_FILE_BYTES, read_file
from lensgraph.tools.safety.one_line import one_line

MAX_PIXELS = 50_000_000
"""Largest picture decoded: about 150 MB as RGB, above what phone cameras save by default."""
MAX_STRETCH = 200
"""Largest ratio of a picture's sides: the processors of Qwen-VL models refuse longer ones."""
MAX_MEMORY = 450_000_000
"""Most memory that decoding one picture may take, in bytes, the file included; it grows with a pixel cap over `MAX_PIXELS`."""
MAX_RAW_BYTES = 256 * 1024 * 1024
"""Bytes that pixels may unpack to: 50 million pixels of RGBA take 200 million; it grows with the pixel cap as well."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Decoders offered to outside bytes; Pillow's many exotic ones are attack surface without users. MPO is read as JPEG."""

STRIP_PIXELS = 2_000_000
"""Pixels converted at a time."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""Turn that undoes each EXIF orientation."""

_warnings_lock = threading.Lock()
"""The warnings filter is global state of the process, so only one thread at a time may change it."""


def open_image(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode `data` into an upright RGB picture (first frame, transparency on white).

    `name` is a file name or an address, for the error message.

    Raises:
        Refused: the bytes are no picture, a damaged one, or one over the caps.
    """
    return decode(first_picture(data, name=name, max_pixels=max_pixels), name=name)


def first_picture(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> FirstPicture:
    """Read the header of `data` and decide whether its first picture may be decoded; nothing is decoded yet.

    Raises:
        Refused: the bytes are no picture, a damaged one, or one over the caps.
    """
    if not data:
        raise Refused(f"{name}: zero bytes; give a picture file.")
    try:
        first = headers.read(bytes(data))
    except headers.BadHeader as error:
        raise Refused(f"{name}: {error}") from error
    check_size(first.width, first.height, name=name, max_pixels=max_pixels)
    converting = 8 * first.width * first.height  # the decoded picture, and its RGB copy
    memory = max(first.decode_bytes, converting) + len(data) + len(first.data)
    grown = max(1.0, max_pixels / MAX_PIXELS)
    cap = MAX_MEMORY * grown
    if first.raw_bytes > MAX_RAW_BYTES * grown:
        raise Refused(
            f"{name}: its pixels unpack to {first.raw_bytes:,} bytes, the cap is {MAX_RAW_BYTES * grown:,.0f}; "
            "save it with 8 bits a channel, or smaller."
        )
    if memory > cap:
        raise Refused(
            f"{name}: {first.width}x{first.height} pixels of {first.format} may take {memory / 1e6:,.0f} MB to decode, "
            f"the cap is {cap / 1e6:,.0f}; give a smaller picture, or save it as baseline JPEG."
        )
    return first


def decode(first: FirstPicture, *, name: str = "picture") -> Image.Image:
    """Decode a picture whose header was read into an upright RGB picture.

    Raises:
        Refused: the pixels are damaged.
    """
    alone = first.decode_bytes + first.code_bytes > MAX_MEMORY
    picture = isolated.decode(first, name) if alone else _opened(first, name)
    try:
        picture.load()
        if first.orientation != 1:
            picture = picture.transpose(_TURNS[first.orientation])
        rgb = _rgb(picture)
        return rgb.copy() if isinstance(rgb, ImageFile.ImageFile) else rgb  # without its decoder
    except Exception as error:  # hostile bytes make decoders raise almost anything; each means "unreadable"
        raise Refused(
            f"{name}: truncated or damaged {first.format} file ({one_line(error, 120)}); save it again."
        ) from error


def check_size(width: int, height: int, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture of too many pixels, and one so narrow that no model takes it."""
    size = f"{name}: {width}x{height} pixels"
    if width * height > max_pixels:
        raise Refused(f"{size} is over the cap of {max_pixels:,}; give a smaller picture.")
    if max(width, height) > MAX_STRETCH * min(width, height):
        raise Refused(f"{size} is a sliver, its sides may differ {MAX_STRETCH}-fold; give a part that is less long.")


def to_rgb(picture: Image.Image) -> Image.Image:
    """An upright 8-bit RGB copy of a decoded picture; transparent parts become white."""
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing about the pixels: keep them as stored
        picture = picture.copy()
    return _rgb(picture)


def _rgb(picture: Image.Image) -> Image.Image:
    """The same picture in 8-bit RGB, converted in strips: whole copies in between would take several times its memory."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _in_strips(picture, "L", _to_8_bit(picture))
    if picture.has_transparency_data:
        picture = _in_strips(picture, "RGB", _on_white)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    picture.info = {}
    return picture


def _in_strips(picture: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    rows = max(1, STRIP_PIXELS // picture.width)
    if picture.height <= rows:
        return change(picture)
    whole = Image.new(mode, picture.size)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(picture.height, top + rows)))
        whole.paste(change(strip), (0, top))
    return whole


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def image_bytes(source: str | Path) -> tuple[bytes, str]:
    """The encoded bytes and a short name of a picture that is given as a path, a data URI or bare base64.

    Raises:
        Refused: there is no such file, it is too large, or the data URI is broken.
    """
    text = str(source)
    if data_uri.is_inline(text):
        return data_uri.decode(text, MAX_FILE_BYTES), "data URI"
    return read_file(source), Path(text).name


async def load_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An RGB picture from a PIL image, bytes, `pathlib.Path`, data URI or http(s) address; blocking work runs in a thread.

    A path as text is refused: a model may have written it, and only the program's own code can make a `Path`.

    Raises:
        Refused: the source is none of these, is not allowed, or holds no usable picture.
        ToolFailure: the address cannot be fetched.
    """
    if isinstance(source, Image.Image):
        return await asyncio.to_thread(to_rgb, source)
    if isinstance(source, bytes | bytearray):
        return await asyncio.to_thread(open_image, bytes(source), max_pixels=max_pixels)
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        body = await fetch(source, want=PICTURE)
        return await asyncio.to_thread(open_image, body, name=source[:120], max_pixels=max_pixels)
    if isinstance(source, str) and not data_uri.is_inline(source):
        raise Refused(f"{source[:120]!r}: give a picture as a data URI or an http(s) address; in code a pathlib.Path.")
    if isinstance(source, str | Path):

        def read() -> Image.Image:
            data, name = image_bytes(source)
            return open_image(data, name=name, max_pixels=max_pixels)

        return await asyncio.to_thread(read)
    raise Refused(
        f"a picture cannot be a {type(source).__name__}; give a PIL image, bytes, a pathlib.Path or an address."
    )


def _opened(first: FirstPicture, name: str) -> Image.Image:
    # Only the header is read while the lock is held.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(first.data), formats=(first.format,))
        except Image.DecompressionBombError as error:  # only where the cap was raised above Pillow's
            raise Refused(f"{name}: too many pixels to decode safely; give a smaller picture.") from error
        except Exception as error:  # hostile bytes again: any error on a header means "not a picture"
            raise Refused(
                f"{name}: truncated or damaged {first.format} file ({one_line(error, 120)}); save it again."
            ) from error
    if picture.size != (first.width, first.height):
        raise Refused(f"{name}: damaged {first.format} file of two sizes; save it again.")
    return picture


def _to_8_bit(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """A function that scales grey of more than 8 bits down; Pillow's own conversion would clip it to white."""
    low, high = (float(v) for v in picture.getextrema())  # type: ignore[arg-type]
    if picture.mode == "F" and low >= 0 and high <= 1:
        scale = 255.0
    elif picture.mode.startswith("I;16") or high > 255:
        scale = 255 / 65535
    else:
        scale = 1.0

    def scaled(part: Image.Image) -> Image.Image:
        wide = part.convert("I") if part.mode.startswith("I;16") else part
        return wide.convert("F").point(lambda value: value * scale + 0.0).convert("L")

    return scaled
