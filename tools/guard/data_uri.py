"""Pictures written as text: data URIs and bare base64, in the spellings that clients send.

Read are line ends and spaces within the base64, percent-encoding (`%2B`), the URL-safe alphabet, missing padding, `DATA:` in any
case (RFC 2397, RFC 4648). Not read: a data URI without `;base64`.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

from lensgraph.tools.guard.addresses import Refused

SHOWN = 40
"""Characters of a data URI that an error message repeats."""
_SCHEME = re.compile(r"\s*data:", re.IGNORECASE)
_BARE = re.compile(r"(?:iVBORw0KGgo|/9j/|UklGR|R0lGOD|SUkqA|TU0AK)[A-Za-z0-9+/_\s-]{60,}={0,2}\s*")
"""Base64 that starts as PNG, JPEG, WebP, GIF or TIFF files do. A path has a dot in it or is shorter."""
_FOREIGN = re.compile(r"[^A-Za-z0-9+/]")
_STANDARD = str.maketrans("-_", "+/")


def is_inline(text: str) -> bool:
    """Whether `text` holds a picture itself: it is a data URI, or the base64 of a picture."""
    return _SCHEME.match(text) is not None or _BARE.fullmatch(text) is not None


def decode(text: str, max_bytes: int) -> bytes:
    """The bytes of a data URI or of bare base64.

    Raises:
        Refused: the URI is not base64, the base64 is broken, or it holds more than `max_bytes`.
    """
    body = text
    if _SCHEME.match(text):
        head, comma, body = text.partition(",")
        if not comma or not head.rstrip().lower().endswith(";base64"):
            raise Refused(f"data URI {head.strip()[:SHOWN]!r} is not base64; write data:image/png;base64,...")
    if len(body) > 4 * max_bytes:  # percent-encoded line by line, it is still shorter
        raise _too_long(max_bytes)
    if "%" in body:
        body = unquote(body)
    body = "".join(body.split()).translate(_STANDARD).rstrip("=")
    if len(body) * 3 // 4 > max_bytes:
        raise _too_long(max_bytes)
    if foreign := _FOREIGN.search(body):
        raise _broken(text, f"{foreign.group()!r} is no character of it")
    if len(body) % 4 == 1:
        raise _broken(text, "the end is missing")
    return base64.b64decode(body + "=" * (-len(body) % 4))


def _broken(text: str, why: str) -> Refused:
    return Refused(f"data URI {text.strip()[:SHOWN]!r} holds broken base64 ({why}); encode the picture again.")


def _too_long(max_bytes: int) -> Refused:
    return Refused(f"data URI: more than {max_bytes:,} bytes; give a smaller picture.")
