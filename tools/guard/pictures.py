"""Pictures decoded under caps: refused by size and shape before decoding, and always returned as upright 8-bit RGB.

Covered: pixel bombs, truncated and mislabelled files, animated, CMYK, 16-bit, palette, transparent and EXIF-rotated
pictures. Not covered: valid pictures with misleading content.
"""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lensgraph.tools.guard.addresses import Refused
from lensgraph.tools.guard.bodies import PICTURE
from lensgraph.tools.guard.data_uri import decode, is_inline
from lensgraph.tools.guard.fetching import fetch
from lensgraph.tools.guard.files import MAX_FILE_BYTES, read_file
from lensgraph.tools.safety.errors import one_line

MAX_PIXELS = 50_000_000
"""Largest picture decoded: about 150 MB as RGB, above what phone cameras save by default."""
MAX_STRETCH = 200
"""Largest ratio of a picture's sides: the processors of Qwen-VL models refuse longer ones."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
"""Decoders offered to outside bytes; Pillow's many exotic ones are attack surface without users."""

_warnings_lock = threading.Lock()
"""The warnings filter is global state of the process, so only one thread at a time may change it."""


def open_image(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode `data` into an upright RGB picture (first frame, transparency on white).

    `name` is a file name or an address, for the error message.

    Raises:
        Refused: the bytes are no picture, a damaged one, or one over the caps.
    """
    if not data:
        raise Refused(f"{name}: zero bytes; give a picture file.")
    picture = _open_header(data, name, max_pixels)
    check_size(*picture.size, name=name, max_pixels=max_pixels)
    try:
        picture.load()
    except Exception as error:  # hostile bytes make decoders raise almost anything; each means "unreadable"
        raise Refused(
            f"{name}: truncated or damaged {picture.format} file ({one_line(error, 120)}); save it again."
        ) from error
    check_size(*picture.size, name=name, max_pixels=max_pixels)  # some files hold another size than their header says
    return to_rgb(picture)


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
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _to_8_bit(picture)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        picture = white
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    picture.info = {}
    return picture


def image_bytes(source: str | Path) -> tuple[bytes, str]:
    """The encoded bytes and a short name of a picture that is given as a path, a data URI or bare base64.

    Raises:
        Refused: there is no such file, it is too large, or the data URI is broken.
    """
    text = str(source)
    if is_inline(text):
        return decode(text, MAX_FILE_BYTES), "data URI"
    return read_file(source), Path(text).name


async def load_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An RGB picture from a PIL image, bytes, path, data URI or http(s) address; blocking work runs in a thread.

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
    if isinstance(source, str | Path):

        def read() -> Image.Image:
            data, name = image_bytes(source)
            return open_image(data, name=name, max_pixels=max_pixels)

        return await asyncio.to_thread(read)
    raise Refused(f"a picture cannot be a {type(source).__name__}; give a PIL image, bytes, a path or an address.")


def _open_header(data: bytes, name: str, max_pixels: int) -> Image.Image:
    # Only the header is read while the lock is held.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):  # unless the user's own cap is above Pillow's
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Refused(f"{name}: too many pixels to decode safely; give a smaller picture.") from error
        except ValueError as error:  # Pillow: a text chunk or a colour profile unpacks to too much
            raise Refused(
                f"{name}: damaged, or more text beside the pixels than is read ({one_line(error, 120)}); save the picture again "
                "without it."
            ) from error
        except Exception as error:  # hostile bytes again: any error on a header means "not a picture"
            raise Refused(f"{name}: not a picture; give PNG, JPEG, WebP, GIF, BMP or TIFF.") from error


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale a grey picture of more than 8 bits down; Pillow's own conversion would clip it to white."""
    low, high = (float(v) for v in picture.getextrema())  # type: ignore[arg-type]
    if picture.mode == "F" and low >= 0 and high <= 1:
        scale = 255.0
    elif picture.mode.startswith("I;16") or high > 255:
        scale = 255 / 65535
    else:
        scale = 1.0
    wide = picture.convert("I") if picture.mode.startswith("I;16") else picture
    return wide.convert("F").point(lambda value: value * scale + 0.0).convert("L")
