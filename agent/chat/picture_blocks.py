"""The picture of a content block, in the shapes that chat clients, model providers and protocols send.

Invariant: a block that stands for a picture gives its picture or is a `BadInput` that names it; it is never passed over. The
shapes are listed in `agent/README.md`. A picture in a block of no known shape is found by its keys, because clients differ in
little else.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ID
from lensgraph.tools import guard

MEDIA_TYPES = ("mime_type", "mimeType", "media_type", "mediaType", "contentType")
"""Keys of a media type."""
ENCODED = ("base64", "data", "bytes", "blob", "b64_json", "base64Image", "content", "value", "result")
"""Keys of the picture itself: bytes, or their base64."""
NAMED = ("url", "uri", "path", "image_url", "image", "file_data", "file_uri", "fileUri", "file_url")
"""Keys of an address, a path or a data URI."""
NESTED = ("source", "image", "image_url", "file", "inline_data", "inlineData", "file_data", "fileData", "resource", "data",
          "s3Location", "url")  # fmt: skip
"""Keys of an object that holds one of the above."""
IDS = ("id", "file_id", "fileId")
"""Keys of an id. Beside a picture it names the block; alone it names a picture in the store."""
PICTURE_KEYS = ("image", "image_url", "input_image")
"""Keys that make a block without a type a picture (Bedrock, Qwen)."""
CARRIERS = ("file", "input_file", "media", "binary", "blob", "uri", "resource", "resource_link", "document")
"""Types of blocks that carry a picture or something else; the media type decides."""
OTHER_MEDIA = re.compile(r"audio|video")
DEPTH = 4
"""Objects within objects that are looked through: the deepest known shape has three."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def source_of(block: Mapping[str, Any]) -> Any:
    """The picture of a block, as the image store takes it; None: the block is no picture.

    Raises:
        BadInput: an image block without a picture, or with one that only its provider can read.
    """
    if block.get("type") == "non_standard" and isinstance(block.get("value"), Mapping):  # LangChain's wrapper
        block = block["value"]
    if not is_picture(block):
        return None
    found = _find(block, _media_type(block), DEPTH)
    if found is not None:
        return found
    if (identity := _identity(block, DEPTH)) is None:
        raise BadInput(
            f"An image block holds no picture: its keys are {_keys(block)}; give `base64` with `mime_type`, or `url`."
        )
    if not ID.fullmatch(identity):
        raise BadInput(f"The file {identity[:80]!r} of an image block lies with its provider; send the picture itself.")
    return identity


def is_picture(block: Mapping[str, Any]) -> bool:
    """Whether a block stands for a picture."""
    kind = _kind(block)
    if "image" in kind or block.get("modality") == "image":
        return not kind.endswith(("_call", "tool_use")) or "result" in block
    if kind in CARRIERS:
        return _media_type(block).startswith("image")
    if kind:
        return False
    return any(block.get(key) for key in PICTURE_KEYS) or _media_type(block).startswith("image/")


def unreadable(block: Mapping[str, Any]) -> str | None:
    """The kind of a block that holds media which are neither text nor picture; None: it is text, or about tools."""
    if is_picture(block) or isinstance(block.get("text"), str):  # a document may be given as text
        return None
    names = [kind] if (kind := _kind(block)) else [str(key) for key in block]
    found = next((name for name in names if name in CARRIERS or OTHER_MEDIA.search(name)), None)
    return found and found[:40] + (f" ({media})" if (media := _media_type(block)) else "")


def _kind(block: Mapping[str, Any]) -> str:
    return str(block.get("type") or block.get("block_type") or "")


def _keys(block: Mapping[str, Any]) -> str:
    return ", ".join(sorted(str(key)[:40] for key in block)[:8])


def _media_type(block: Mapping[str, Any], depth: int = DEPTH) -> str:
    """The media type that a block declares, in itself, in its data URI or in an object within it; empty: none."""
    for key in MEDIA_TYPES:
        if isinstance(block.get(key), str):
            return str(block[key]).lower()
    if isinstance(block.get("filename"), str) and (guessed := mimetypes.guess_type(block["filename"])[0]):
        return guessed
    for key in (*NAMED, "data"):
        value = block.get(key)
        if isinstance(value, str) and (declared := re.match(r"\s*data:([^;,]+)", value[:100], re.IGNORECASE)):
            return declared[1].lower()
    inner = (block[key] for key in NESTED if depth and isinstance(block.get(key), Mapping))
    return next((found for one in inner if (found := _media_type(one, depth - 1))), "")


def _find(block: Mapping[str, Any], media_type: str, depth: int) -> Any:
    for key in ENCODED:
        value = block.get(key)
        if isinstance(value, bytes | bytearray) and value:
            return bytes(value)
        if isinstance(value, str) and value:
            if _SCHEME.match(value):
                return _address(value)
            return value if guard.is_inline(value) else f"data:{media_type or 'image/png'};base64,{value}"
    for key in NAMED:
        value = block.get(key)
        if isinstance(value, str) and value:
            return _address(value)
        if isinstance(value, bytes | bytearray | Image.Image | Path):
            return value
    for key in NESTED:
        value = block.get(key)
        if isinstance(value, Mapping) and depth and (found := _find(value, media_type, depth - 1)) is not None:
            return found
        if isinstance(value, str) and value:
            return _address(value)
    return None


def _identity(block: Mapping[str, Any], depth: int) -> str | None:
    found = next((block[key] for key in IDS if isinstance(block.get(key), str)), None)
    inner = (block[key] for key in NESTED if depth and isinstance(block.get(key), Mapping))
    return found or next((below for one in inner if (below := _identity(one, depth - 1))), None)


def _address(text: str) -> str:
    """An address as the image store takes it; `file://` becomes a path.

    Raises:
        BadInput: an address that only its provider can read, such as `s3://` or `gs://`.
    """
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() in ("http", "https"):
        return text
    if scheme[1].lower() == "file":
        return unquote(urlsplit(text).path)
    raise BadInput(f"{text[:80]}: a picture cannot be read from {scheme[1]}://; send it itself, or an http(s) address.")
