"""Pictures by content: bytes under their sha256, crops as boxes on the original.

Invariants: every stored byte string passed the guard and is one upright RGB frame in PNG, JPEG or WebP, so the id of a
picture is the hash of exactly the bytes that are kept; a crop of a crop is again one box on the original picture, and
cropping the original with that box gives the crop's pixels. Lineage lives in the `Picture` record and travels in the
graph state. The store knows bytes only, because two parents can have equal crops.
"""

from __future__ import annotations

import asyncio
import base64
import builtins
import hashlib
import io
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

# typing.TypedDict gives LangGraph an empty input schema on Python 3.11
from typing_extensions import TypedDict

from lensgraph.agent.errors import BadInput, keeping
from lensgraph.tools import guard
from lensgraph.tools.locate.qwen import resized
from lensgraph.tools.results import Box
from lensgraph.tools.runtime.whole_files import write_whole

KEPT_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Formats that are stored as they came if nothing had to be changed; everything else becomes PNG."""
SHOWN_FORMATS = ("image/png", "image/jpeg")
"""Types in which a policy is shown a picture; another becomes PNG, without loss. llama.cpp's server reads no WebP."""
ID = re.compile(r"[0-9a-f]{64}")
MEMORY_BYTES = 512 * 1024 * 1024
"""Bytes of encoded pictures that are kept in memory; beyond it the longest unused one is dropped."""
DECODED_PICTURES = 4
"""Number of decoded pictures that are kept: a question looks at one picture and its crops again and again."""
VIEW_BYTES = 64 * 1024 * 1024
"""Bytes of encoded views that are kept, so that a turn does not encode again what an earlier one encoded."""


class Picture(TypedDict):
    """A picture in the image store, or a crop of one."""

    id: str
    """sha256 of the stored bytes, in hex."""
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    mime_type: str
    """Media type of the stored bytes."""
    parent: str | None
    """Id of the original picture if this is a crop, else None. Never a crop of a crop: boxes compose."""
    box: list[int] | None
    """Left, top, right, bottom in pixels of the original picture; None if this is an original."""


def facts(picture: Picture) -> dict[str, Any]:
    """The record of a picture as callbacks are told it: what is known about it."""
    return {key: value for key, value in picture.items() if value is not None}


class View(NamedTuple):
    """The sizes at which a policy is shown a picture, in pixels (width times height)."""

    largest: int
    """A larger picture is scaled down to this."""
    smallest: int = 0
    """A smaller picture is scaled up to this. 0: none is."""
    nearest: bool = False
    """Scale by the nearest neighbour and keep every pixel of that, for a policy that was trained on such pictures."""


class _Cache:
    """Least recently used values under a total weight. Not locked: the store holds the lock."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.weight = capacity, 0
        self.items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        if key not in self.items:
            return None
        self.items.move_to_end(key)
        return self.items[key][0]

    def put(self, key: Any, value: Any, weight: int) -> None:
        if key in self.items:
            self.weight -= self.items.pop(key)[1]
        self.items[key] = (value, weight)
        self.weight += weight
        while self.weight > self.capacity and len(self.items) > 1:
            self.weight -= self.items.popitem(last=False)[1][1]


SETTING = "images.folder"
"""The setting that names a store's folder."""
RECORDS = 4096
"""Number of picture records that are kept, so that a look-up by id needs no decoding."""


def names_file(source: Any) -> bool:
    """Whether a picture is given as the path of a file: not as an address, a data URI, an id or the picture itself."""
    if not isinstance(source, str):
        return isinstance(source, Path)
    elsewhere = source.lower().startswith(("http://", "https://")) or guard.is_inline(source)
    return not elsewhere and ID.fullmatch(source) is None


def read_named(source: str | Path, files: bool | str | Path) -> bytes:
    """The content of a file that a caller named: any file if `files` is True, none if False, else those below `files`.

    Blocks: call it from a thread.

    Raises:
        Refused: the file may not be read, or is none.
    """
    if files is False:
        raise guard.Refused(
            f"{str(source)[:120]}: paths are turned off here (images.local_files); send the picture itself, "
            "or in a program's own code a pathlib.Path.",
            "refused",
        )
    return guard.read_file(source, None if files is True else files)


class ImageStore:
    """Content-addressed pictures, in memory or also in a folder. Safe to share between threads, runs and processes."""

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        max_pixels: int = guard.MAX_PIXELS,
        memory_bytes: int = MEMORY_BYTES,
        local_files: bool | str | Path = False,
    ) -> None:
        """`folder` keeps pictures across processes; `local_files` says which files a text may name, see `read_named`."""
        self.folder = Path(folder).expanduser() if folder else None
        self.max_pixels, self.local_files = max_pixels, local_files
        self._lock = threading.Lock()
        self._encoded = _Cache(memory_bytes)
        self._decoded = _Cache(DECODED_PICTURES)
        self._views = _Cache(min(VIEW_BYTES, memory_bytes))
        self._records = _Cache(RECORDS)

    @property
    def weight(self) -> int:
        """About how many bytes of memory its pictures take."""
        with self._lock:
            decoded = sum(3 * image.width * image.height for image, _ in self._decoded.items.values())
            return self._encoded.weight + self._views.weight + decoded

    # --- in

    async def take(self, source: Any) -> Picture:
        """Store a picture given as a PIL image, bytes, path, data URI, http(s) address or id of this store.

        A `pathlib.Path` is always read: only the program's own code can make one. A path as text may come from anybody
        and is read as far as `local_files` allows.
        """
        if names_file(source):
            allowed = True if isinstance(source, Path) else self.local_files
            return await guard.in_time(lambda: self.add(read_named(source, allowed), Path(source).name))
        if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
            body = await guard.fetch(source)
            return await asyncio.to_thread(self.add, body, name=source[:120])
        known = self.known(source) if isinstance(source, str) else None
        return known if known is not None else await asyncio.to_thread(self._take_local, source)

    def _take_local(self, source: Any) -> Picture:
        if isinstance(source, Image.Image):
            return self.add_image(source)
        if isinstance(source, bytes | bytearray):
            return self.add(bytes(source))
        if isinstance(source, str) and ID.fullmatch(source):
            return self.picture(source)
        if isinstance(source, str):
            return self.add(*guard.image_bytes(source))
        raise guard.Refused(
            f"a picture cannot be a {type(source).__name__}; give a path, bytes, a PIL image, a data URI or an address."
        )

    def add(self, data: bytes, name: str = "picture") -> Picture:
        """Store encoded bytes after the guard has read them."""
        first = guard.first_picture(data, name=name, max_pixels=self.max_pixels)
        image = guard.decode(first, name=name)
        mime_type = _mime_type_if_plain(first)
        if mime_type is None:
            return self.add_image(image)
        return self._keep(first.data, image, mime_type)  # what was checked, without metadata such as a location

    def add_image(self, image: Image.Image) -> Picture:
        """Store a decoded picture as PNG."""
        guard.check_size(*image.size, max_pixels=self.max_pixels)
        image = guard.to_rgb(image)
        return self._keep(_encode(image, "image/png"), image, "image/png")

    def crop(self, picture: Picture, box: Box) -> Picture:
        """Store a part of a picture. `box` is in the pixels of `picture`; the record's box is in the original's."""
        image = self.open(picture["id"])
        left, top, right, bottom = box.ltrb
        inside = Box(
            left=max(0, left),
            top=max(0, top),
            right=min(image.width, right),
            bottom=min(image.height, bottom),
        )
        crop = self.add_image(image.crop(inside.ltrb))
        dx, dy = (picture["box"] or [0, 0])[:2]
        crop["parent"] = picture["parent"] or picture["id"]
        crop["box"] = [inside.left + dx, inside.top + dy, inside.right + dx, inside.bottom + dy]
        return crop

    def _keep(self, data: bytes, image: Image.Image, mime_type: str) -> Picture:
        identity = hashlib.sha256(data).hexdigest()
        self._write(identity, data)
        with self._lock:
            self._encoded.put(identity, data, len(data))
            self._decoded.put(identity, image, 1)
        return self._remember(_record(identity, image, mime_type))

    def _remember(self, record: Picture) -> Picture:
        with self._lock:
            self._records.put(record["id"], record, 1)
        return record.copy()

    def known(self, identity: str) -> Picture | None:
        """`picture` without reading or decoding; None: it is not at hand."""
        with self._lock:
            record: Picture | None = self._records.get(identity)
            held = record is not None and (self.folder is not None or self._encoded.get(identity) is not None)
        return record.copy() if held and record is not None else None

    # --- out

    def bytes(self, identity: str) -> bytes:
        """The stored bytes.

        Raises:
            BadInput: the store does not hold them any more, or not as they were.
            StorageError: the folder cannot be read.
        """
        with self._lock:
            data: bytes | None = self._encoded.get(identity)
        if data is None and (data := self._on_disk(identity)) is not None:
            with self._lock:
                self._encoded.put(identity, data, len(data))
        if data is None:
            raise BadInput(
                f"picture {identity[:12]} is not in the image store any more; send it again, "
                "or set images.folder to keep pictures on disk."
            )
        return data

    def secure(self, identity: str) -> None:
        """Put a picture back into the folder if it was taken out while this process held it.

        Raises:
            BadInput: it is lost.
            StorageError: the folder cannot be used.
        """
        if self.folder is not None and not (self.folder / identity).exists():
            self._write(identity, self.bytes(identity))

    def _on_disk(self, identity: str) -> builtins.bytes | None:
        if self.folder is None or not ID.fullmatch(identity):
            return None
        with keeping(self.folder, SETTING):
            try:
                data = (self.folder / identity).read_bytes()
            except FileNotFoundError:
                return None
        return (
            data if hashlib.sha256(data).hexdigest() == identity else None
        )  # damaged: treated as missing, never shown

    def _write(self, identity: str, data: builtins.bytes) -> None:
        """Keep bytes in the folder, if there is one; a damaged file of this name is replaced."""
        if self.folder is not None and self._on_disk(identity) is None:
            with keeping(self.folder, SETTING):
                write_whole(self.folder / identity, data)

    def open(self, identity: str) -> Image.Image:
        """The decoded picture, shared: do not draw on it.

        Raises:
            BadInput: the store does not hold it any more, or this store's limits refuse it.
            StorageError: the folder cannot be read.
        """
        with self._lock:
            image: Image.Image | None = self._decoded.get(identity)
        if image is None:
            try:
                image = guard.open_image(self.bytes(identity), name=identity[:12], max_pixels=self.max_pixels)
            except guard.Refused as error:  # kept when the limit was higher
                raise BadInput(str(error)) from error
            with self._lock:
                self._decoded.put(identity, image, 1)
        return image

    async def opened(self, identity: str) -> Image.Image:
        """`open` without blocking the event loop; it takes a thread only if there is something to decode."""
        with self._lock:
            image: Image.Image | None = self._decoded.get(identity)
        return image if image is not None else await asyncio.to_thread(self.open, identity)

    def picture(self, identity: str) -> Picture:
        """The record of a stored picture, as an original."""
        known = self.known(identity)
        if known is not None:
            return known
        data = self.bytes(identity)
        return self._remember(
            _record(identity, self.open(identity), _mime_type_if_plain(guard.read_header(data)) or "image/png")
        )

    def view(self, identity: str, largest: int, smallest: int = 0, nearest: bool = False) -> tuple[builtins.bytes, str]:
        """PNG or JPEG for the policy and its type, in the sizes of a `View`, without metadata such as a location."""
        data = self.bytes(identity)
        first = guard.read_header(data)
        size, mime_type, bare = (first.width, first.height), KEPT_FORMATS[first.format], first.bare
        shown = view_size(*size, largest, smallest)
        if shown == size and bare and mime_type in SHOWN_FORMATS:
            return data, mime_type
        image = self.open(identity)
        if shown != size:
            image = image.resize(shown, Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)
        if (nearest and shown != size) or mime_type not in SHOWN_FORMATS:
            mime_type = "image/png"  # JPEG would blur what stands pixel by pixel
        return _encode(image, mime_type), mime_type

    def block(self, identity: str, largest: int, smallest: int = 0, nearest: bool = False) -> dict[str, Any]:
        """A LangChain image block with the view's bytes, encoded once per picture and size."""
        block = self.cached_block(identity, largest, smallest, nearest)
        if block is None:
            data, mime_type = self.view(identity, largest, smallest, nearest)
            text = base64.b64encode(data).decode()
            block = {"type": "image", "id": identity, "base64": text, "mime_type": mime_type}
            with self._lock:
                self._views.put((identity, largest, smallest, nearest), block, len(text))
        return block

    def cached_block(
        self, identity: str, largest: int, smallest: int = 0, nearest: bool = False
    ) -> dict[str, Any] | None:
        """The block if it was made before, so that a caller can avoid a thread."""
        with self._lock:
            block: dict[str, Any] | None = self._views.get((identity, largest, smallest, nearest))
        return block


def view_size(width: int, height: int, largest: int, smallest: int = 0) -> tuple[int, int]:
    """The size at which a picture is shown."""
    for limit, beyond in ((largest, width * height > largest), (smallest, width * height < smallest)):
        if beyond:
            width, height = resized(width, height, (limit / (width * height)) ** 0.5)
    return width, height


def _record(identity: str, image: Image.Image, mime_type: str) -> Picture:
    return Picture(id=identity, width=image.width, height=image.height, mime_type=mime_type, parent=None, box=None)


def _mime_type_if_plain(first: guard.FirstPicture) -> str | None:
    """The type of a file that can be kept: one upright RGB frame in a format every model reads."""
    return KEPT_FORMATS.get(first.format) if first.orientation == 1 and first.still and first.rgb else None


def _encode(image: Image.Image, mime_type: str) -> bytes:
    buffer = io.BytesIO()
    if mime_type == "image/jpeg":
        image.save(buffer, "JPEG", quality=92)
    else:
        # Level 1: five times faster than the default for a few per cent more bytes, and still lossless.
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
