"""Every byte from outside passes here before anything else reads it.

Pictures: `open_image` refuses by size and shape before decoding and always returns an upright 8-bit RGB picture.
Addresses: `fetch` connects only to an address that was checked (`addresses`), for each connection, redirects included;
the name is resolved once and the connection goes to that very address, so a name that changes its
address between check and connection gains nothing.
Bodies: counted and unpacked under a cap while they arrive, and taken for what their own bytes say (`bodies`).

Covered: pixel bombs, truncated and mislabelled files, animated, CMYK, 16-bit, palette, transparent and
EXIF-rotated pictures; odd schemes and ports; bodies over the cap, packed ones too; slow servers. `python -m lensgraph.tools guard`
tries all of it. Not covered: valid pictures with misleading content; proxies (environment proxies are ignored, because a
proxy would resolve the name itself)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import threading
import warnings
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from lensgraph.tools.guard.addresses import PUBLIC_WEB, FetchPolicy, Refused, address_allowed, resolve
from lensgraph.tools.guard.bodies import ENCODINGS, PAGE, PICTURE, Kind, Unpacker, sniff
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.retry import retry_after

if TYPE_CHECKING:
    import httpx

__all__ = [
    "FORMATS", "MAX_FETCH_BYTES", "MAX_FILE_BYTES", "MAX_PIXELS", "MAX_REDIRECTS", "MAX_STRETCH", "PAGE", "PICTURE", "PUBLIC_WEB",
    "USER_AGENT", "FetchPolicy", "Fetched", "Kind", "Refused", "address_allowed", "check_size", "fetch", "get", "image_bytes",
    "load_image", "open_image", "resolve", "sniff", "to_rgb",
]  # fmt: skip

MAX_PIXELS = 50_000_000
"""Largest picture decoded: about 150 MB as RGB, above what phone cameras save by default."""
MAX_STRETCH = 200
"""Sides of a picture may differ by this factor: the processors of Qwen-VL models take no longer ones."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Largest picture file read from disk or from a data URI."""
MAX_FETCH_BYTES = 20 * 1024 * 1024
"""Largest body fetched from the web."""
MAX_REDIRECTS = 5
USER_AGENT = "lensgraph"
"""How the program names itself to servers; robots rules are looked up under this name."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
"""Decoders offered to outside bytes; the many exotic ones of Pillow are attack surface nobody asked for."""

_NO_SERVER = re.compile(r"https?://([^/?#]*@)?(:\d*)?([/?#]|$)", re.IGNORECASE)
_warnings_lock = threading.Lock()
"""The warnings filter is global state of the process, so only one thread at a time may change it."""


# --- pictures ------------------------------------------------------------------------------------------


def open_image(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode `data` into an upright RGB picture (first frame, transparency on white), or raise `Refused`.

    `name` is what the error calls the bytes: a file name or an address.
    """
    if not data:
        raise Refused(f"{name}: zero bytes; give a picture file.")
    picture = _open_header(data, name, max_pixels)
    check_size(*picture.size, name=name, max_pixels=max_pixels)
    try:
        picture.load()
    except Exception as error:  # hostile bytes make decoders raise almost anything; all of it means "unreadable"
        raise Refused(
            f"{name}: truncated or damaged {picture.format} file ({_one_line(error)}); save it again."
        ) from error
    check_size(*picture.size, name=name, max_pixels=max_pixels)  # some files hold another size than their header says
    return to_rgb(picture)


def check_size(width: int, height: int, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture that has too many pixels, none, or is a sliver that no model could be shown."""
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
    """The encoded bytes and a short name of a picture given as a path or a data URI."""
    text = str(source)
    if text.startswith("data:"):
        head, comma, body = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise Refused(f"data URI {head[:40]!r} is not base64; write data:image/png;base64,...")
        try:
            return base64.b64decode(body, validate=True), "data URI"
        except binascii.Error as error:
            raise Refused(f"data URI holds broken base64 ({error}); encode the picture again.") from error
    if "\x00" in text or len(text) > 4096:
        raise Refused(f"{text[:40]!r}... is neither a path, a data URI nor an address of a picture.")
    path = Path(text).expanduser()
    try:
        if not path.exists():
            raise Refused(f"{text}: no such file; check the path.")
        if not path.is_file():
            raise Refused(f"{text}: not a file; give the path of one picture.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Refused(f"{text}: {path.stat().st_size:,} bytes, the cap is {MAX_FILE_BYTES:,}; give a smaller file.")
        return path.read_bytes(), path.name
    except OSError as error:
        raise Refused(
            f"{text[:200]}: cannot be read ({error.strerror}); check the path and its permissions."
        ) from error


async def load_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An RGB picture from a PIL image, bytes, path, data URI or http(s) address; blocking work runs in a
    thread."""
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
    # The warnings filter is global state of the process, hence the lock; only the header is read while
    # it is held.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):  # unless the user's own cap is above Pillow's
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Refused(f"{name}: too many pixels to decode safely; give a smaller picture.") from error
        except ValueError as error:  # what Pillow raises on a text chunk or a colour profile that unpacks to too much
            raise Refused(
                f"{name}: damaged, or more text beside the pixels than is read ({_one_line(error)}); save the picture again "
                "without it."
            ) from error
        except Exception as error:  # as above: whatever a decoder raises on a header means "not a picture"
            start = bytes(data[:12])
            raise Refused(
                f"{name}: not a picture ({len(data):,} bytes that start with {start!r}); "
                "give PNG, JPEG, WebP, GIF, BMP or TIFF."
            ) from error


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Grey pictures of more than 8 bits; Pillow's own conversion clips them to white."""
    low, high = (float(v) for v in picture.getextrema())  # type: ignore[arg-type]
    if picture.mode == "F" and low >= 0 and high <= 1:
        scale = 255.0
    elif picture.mode.startswith("I;16") or high > 255:
        scale = 255 / 65535
    else:
        scale = 1.0
    wide = picture.convert("I") if picture.mode.startswith("I;16") else picture
    return wide.convert("F").point(lambda value: value * scale + 0.0).convert("L")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


# --- addresses -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fetched:
    """What was found at an address."""

    url: str
    """Where it was found, after redirects."""
    body: bytes
    """The bytes, unpacked."""
    kind: Kind
    """What they are, by their own beginning."""
    content_type: str
    """What the server says they are. Empty: it does not say."""


async def fetch(
    url: str,
    *,
    max_bytes: int = MAX_FETCH_BYTES,
    timeout: float = 15.0,
    policy: FetchPolicy = PUBLIC_WEB,
    want: Collection[Kind] | None = None,
    before: Callable[[str], Awaitable[None]] | None = None,
    user_agent: str = USER_AGENT,
) -> bytes:
    """The body at `url`, as `get` finds it."""
    found = await get(
        url, max_bytes=max_bytes, timeout=timeout, policy=policy, want=want, before=before, user_agent=user_agent
    )
    return found.body


async def get(
    url: str,
    *,
    max_bytes: int = MAX_FETCH_BYTES,
    timeout: float = 15.0,
    policy: FetchPolicy = PUBLIC_WEB,
    want: Collection[Kind] | None = None,
    before: Callable[[str], Awaitable[None]] | None = None,
    user_agent: str = USER_AGENT,
) -> Fetched:
    """What is at `url`. `timeout` is for the whole call, redirects included. `want`: the kinds of body that are of use,
    such as `PAGE`; others are refused, whatever the server calls them. `before` is awaited with every address before it is
    asked for, those of redirects too; what it raises ends the call.

    Raises:
        Refused: the address is not allowed (no connection was made to it), or the body is too large or of another kind.
        ToolFailure: any other reason, with the server's status where it answered.
    """
    if not isinstance(url, str):
        raise Refused(f"an address cannot be a {type(url).__name__}; give http://host/...")
    if _NO_SERVER.match(url):
        raise Refused(f"{url[:200]}: names no server; give an address such as https://example.org/a.png.", "refused")
    import httpx  # 0.15 s to import: only programs that fetch pay for it

    from lensgraph.tools.guard.transport import CheckedTransport

    async def announce(request: httpx.Request) -> None:
        if before is not None:
            await before(str(request.url))

    client = httpx.AsyncClient(
        transport=CheckedTransport(policy),
        event_hooks={"request": [announce]},
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
        timeout=timeout,
        headers={"User-Agent": user_agent, "Accept-Encoding": ENCODINGS},
    )
    try:
        async with asyncio.timeout(timeout), client, client.stream("GET", url) as response:
            found = await _read(response, max_bytes)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ToolFailure("timeout", f"{url[:200]}: no complete answer in {timeout:g} s.") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:  # idna's errors are of the last kind
        raise Refused(
            f"{url[:200]}: not a usable address ({_one_line(error)}); give http:// or https://.", "refused"
        ) from error
    except httpx.TooManyRedirects as error:
        raise Refused(f"{url[:200]}: more than {MAX_REDIRECTS} redirects.", "refused") from error
    except httpx.HTTPError as error:
        raise ToolFailure("unavailable", f"{url[:200]}: {_one_line(error)}.") from error
    if want is not None and found.kind not in want:
        raise Refused(f"{found.url[:200]}: holds {found.kind} data, and {' or '.join(want)} was wanted.", "refused")
    return found


async def _read(response: httpx.Response, max_bytes: int) -> Fetched:
    url = str(response.url)
    shown = url[:200]
    status, wait = response.status_code, retry_after(response.headers.get("retry-after"))
    if status == 429:
        raise ToolFailure("rate_limited", f"{shown}: the server asks to slow down (429).", status=status, wait=wait)
    if not 200 <= status < 300:
        raise ToolFailure("unavailable", f"{shown}: the server answers {status}.", status=status, wait=wait)
    unpacker = Unpacker(shown, response.headers.get("content-encoding", ""), max_bytes)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise Refused(f"{shown}: body is over the cap of {max_bytes:,} bytes; give a smaller file.", "refused")
    async for chunk in response.aiter_raw():
        unpacker.feed(chunk)
    body, content_type = unpacker.close(), response.headers.get("content-type", "")
    return Fetched(url=url, body=body, kind=sniff(body, content_type), content_type=content_type[:200])
