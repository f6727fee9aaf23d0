"""Every byte from outside passes here before anything else reads it.

Pictures: `open_image` refuses by size before decoding and always returns an upright 8-bit RGB picture.
Addresses: `fetch` connects only to an address that was checked, for each connection, redirects included;
the name is resolved once and the connection goes to that very address, so a name that changes its
address between check and connection gains nothing.

Covered: pixel bombs, truncated and mislabelled files, animated, CMYK, 16-bit, palette, transparent and
EXIF-rotated pictures; private, loopback, link-local, mapped, NAT64, 6to4 and Teredo addresses; odd
schemes and ports; bodies over the cap; slow servers. Not covered: valid pictures with misleading
content; proxies (environment proxies are ignored, because a proxy would resolve the name itself)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import ipaddress
import socket
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from tools.results import Reason, ToolFailure

if TYPE_CHECKING:
    import httpx

MAX_PIXELS = 50_000_000
"""Largest picture decoded: about 150 MB as RGB, above what phone cameras save by default."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Largest picture file read from disk or from a data URI."""
MAX_FETCH_BYTES = 20 * 1024 * 1024
"""Largest body fetched from the web."""
MAX_REDIRECTS = 5
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
"""Decoders offered to outside bytes; the many exotic ones of Pillow are attack surface nobody asked for."""

_warnings_lock = threading.Lock()
"""The warnings filter is global state of the process, so only one thread at a time may change it."""


class Refused(ToolFailure, ValueError):
    """The guard did not let this through. The message is one line that names the value and the fix."""

    def __init__(self, message: str, reason: Reason = "bad_input") -> None:
        super().__init__(reason, message)


# --- pictures ------------------------------------------------------------------------------------------


def open_image(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode `data` into an upright RGB picture (first frame, transparency on white), or raise `Refused`.

    `name` is what the error calls the bytes: a file name or an address.
    """
    if not data:
        raise Refused(f"{name}: zero bytes; give a picture file.")
    picture = _open_header(data, name)
    width, height = picture.size
    if width * height > max_pixels:
        raise Refused(f"{name}: {width}x{height} pixels is over the cap of {max_pixels:,}; give a smaller picture.")
    try:
        picture.load()
    except Exception as error:  # hostile bytes make decoders raise almost anything; all of it means "unreadable"
        raise Refused(
            f"{name}: truncated or damaged {picture.format} file ({_one_line(error)}); save it again."
        ) from error
    return to_rgb(picture)


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
        body = await fetch(source)
        return await asyncio.to_thread(open_image, body, name=source[:120], max_pixels=max_pixels)
    if isinstance(source, str | Path):

        def read() -> Image.Image:
            data, name = image_bytes(source)
            return open_image(data, name=name, max_pixels=max_pixels)

        return await asyncio.to_thread(read)
    raise Refused(f"a picture cannot be a {type(source).__name__}; give a PIL image, bytes, a path or an address.")


def _open_header(data: bytes, name: str) -> Image.Image:
    # The warnings filter is global state of the process, hence the lock; only the header is read while
    # it is held.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise Refused(f"{name}: too many pixels to decode safely; give a smaller picture.") from error
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
class FetchPolicy:
    """Where `fetch` may connect."""

    schemes: frozenset[str] = frozenset({"http", "https"})
    """Allowed URL schemes."""
    ports: frozenset[int] = frozenset({80, 443})
    """Allowed ports; other services of a public host are not ours to poke."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Networks allowed although they are not public, for an intranet. Empty: public addresses only."""


PUBLIC_WEB = FetchPolicy()
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"),)
_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in ("192.88.99.0/24", "2002::/16", "2001::/32", "64:ff9b:1::/48", "::/96", "fec0::/10")
)
"""Relays and translations that hide another address, and networks Python still calls global."""


def address_allowed(address: str, policy: FetchPolicy = PUBLIC_WEB) -> bool:
    """Whether a connection to this literal address is allowed: public, or in one of the policy's networks."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _NAT64):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if any(ip.version == network.version and ip in network for network in policy.networks):
        return True
    if any(ip.version == network.version and ip in network for network in _NEVER):
        return False
    return ip.is_global and not ip.is_multicast


async def fetch(
    url: str,
    *,
    max_bytes: int = MAX_FETCH_BYTES,
    timeout: float = 15.0,
    policy: FetchPolicy = PUBLIC_WEB,
) -> bytes:
    """The body at `url`, or `Refused` / `ToolFailure`. `timeout` is for the whole call, redirects
    included."""
    import httpx  # 0.15 s to import: only programs that fetch pay for it

    from tools.transport import CheckedTransport

    client = httpx.AsyncClient(
        transport=CheckedTransport(policy),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
        timeout=timeout,
        # Identity: a compressed body could expand far beyond the cap in one step.
        headers={"User-Agent": "lensgraph", "Accept-Encoding": "identity"},
    )
    try:
        async with asyncio.timeout(timeout), client, client.stream("GET", url) as response:
            return await _read_capped(response, max_bytes)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ToolFailure("timeout", f"{url[:200]}: no complete answer in {timeout:g} s.") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Refused(
            f"{url[:200]}: not a usable address ({_one_line(error)}); give http:// or https://.", "refused"
        ) from error
    except httpx.TooManyRedirects as error:
        raise Refused(f"{url[:200]}: more than {MAX_REDIRECTS} redirects.", "refused") from error
    except httpx.HTTPError as error:
        raise ToolFailure("unavailable", f"{url[:200]}: {_one_line(error)}.") from error


async def _read_capped(response: httpx.Response, max_bytes: int) -> bytes:
    url = str(response.url)[:200]
    if response.status_code == 429:
        raise ToolFailure("rate_limited", f"{url}: the server asks to slow down (429).")
    if response.status_code >= 400:
        raise ToolFailure("unavailable", f"{url}: the server answers {response.status_code}.")
    too_big = f"{url}: body is over the cap of {max_bytes:,} bytes; give a smaller file."
    if int(response.headers.get("content-length") or 0) > max_bytes:
        raise Refused(too_big, "refused")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ToolFailure("malformed", f"{url}: the server compresses although asked not to.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise Refused(too_big, "refused")
    return bytes(body)


async def resolve(host: str, port: int, policy: FetchPolicy) -> str:
    """One checked address of `host`; refused when any of its addresses is not allowed, because a mix is
    a trick."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolFailure("unavailable", f"{host}: no such host ({_one_line(error)}).") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not address_allowed(address, policy):
            raise Refused(
                f"{host}: resolves to {address}, which is not a public address; give a public one.", "refused"
            )
    if not addresses:
        raise ToolFailure("unavailable", f"{host}: no address.")
    return addresses[0]
