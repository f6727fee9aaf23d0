"""The image-search results that were published with FVQA, replayed: what Google Lens gave MMSearch-R1 for each picture.

The files are those of the data set `lmms-lab/FVQA`: pickles of `{data_id: {titles, thumbnails}}` and Parquet tables with the
pictures, which pyarrow reads (`pip install '.[fvqa]'` in a clone of LensGraph). A picture is recognised by its decoded
pixels, so only whole pictures of the data set have results. The pickles are read without executing anything
(`lensgraph.tools.safety.safe_pickle`); pictures in them are rebuilt from their raw pixels.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import PrivateAttr

from lensgraph.tools import guard
from lensgraph.tools.base import ImageSearch
from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.image.thumbnails import KEPT_BYTES, LONGEST, with_thumbnails
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.runtime.home import home, writing
from lensgraph.tools.runtime.whole_files import write_whole
from lensgraph.tools.safety import safe_pickle
from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.outside_json import read_json

DATA_SET = "lmms-lab/FVQA"
"""The data set on the hub that holds the files."""
TITLES, THUMBNAILS = "tool_returned_web_title_list", "tool_returned_images_urls"
"""Fields of an entry of the cache."""
MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pixel formats that are rebuilt."""
BATCH = 16
"""Rows of a table read at once: the pictures are large."""


class FvqaCacheImageSearch(ImageSearch):
    """Replays the published image searches of FVQA. Needs no key, and no network unless thumbnails are fetched."""

    repeatable: ClassVar[bool] = True
    on_this_machine: ClassVar[bool] = True

    folder: Path
    """Folder that the data set was downloaded to, with its `*_image_search_results_cache.pkl` and `.parquet` files."""
    thumbnails: bool = False
    """Fetch thumbnails that the cache knows by address only. Many are gone by now; those kept in the cache are always used."""

    _entries: dict[str, Mapping[str, Any]] | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Recognise the picture and give what was found for it then."""
        name, entry = await asyncio.to_thread(self._find, image)
        hits, sources = await asyncio.to_thread(_read_entry, name, entry, self.k)
        if self.thumbnails:
            missing = [None if hit.thumbnail else source for hit, source in zip(hits, sources, strict=True)]
            hits = await with_thumbnails(hits, missing)
        return SearchResult(kind="image", query=f"image {image.width}x{image.height}", hits=hits)

    def prepare(self) -> None:
        """Read the cache. The first time, every picture of the tables is decoded: minutes for the whole data set."""
        self._load()

    def _find(self, image: Image.Image) -> tuple[str, Mapping[str, Any]]:
        entry = self._load().get(fingerprint(image))
        if entry is None:
            raise ToolFailure(
                "empty", "This picture is not in the FVQA cache, which knows whole pictures of FVQA only."
            )
        return entry["data_id"], entry

    def _load(self) -> dict[str, Mapping[str, Any]]:
        """Fingerprint of a picture -> its entry."""
        with self._lock:
            if self._entries is None:
                caches = sorted(self.folder.expanduser().glob("*_image_search_results_cache.pkl"))
                tables = sorted(self.folder.expanduser().glob("*.parquet"))
                if not caches or not tables:
                    raise ToolFailure(
                        "unavailable",
                        f"{self.folder} holds no FVQA cache with its tables; "
                        f"run: hf download {DATA_SET} --repo-type dataset --local-dir {self.folder}",
                    )
                found: dict[str, Mapping[str, Any]] = {}
                for path in caches:
                    found.update(read_cache(path))
                self._entries = {
                    print_: {**found[data_id], "data_id": data_id}
                    for print_, data_id in _index(tables, found.keys()).items()
                }
            return self._entries


def fingerprint(image: Image.Image) -> str:
    """A digest of the pixels, however they were stored."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def read_cache(path: Path) -> dict[str, Mapping[str, Any]]:
    """`{data_id: entry}` of a published cache file; nothing in the file is executed."""
    try:
        found = safe_pickle.read(path.read_bytes(), kept=_is_picture_part)
    except (OSError, safe_pickle.UnsafePickle) as error:
        raise ToolFailure("unavailable", f"{path.name}: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, dict) for k, v in found.items()):
        raise ToolFailure("unavailable", f"{path.name} is no FVQA cache: it must map data_id to an entry.")
    return found


def _is_picture_part(name: str) -> bool:
    """Pillow's pictures, and the fractions that stand in their metadata."""
    return name.startswith("PIL.") or name == "fractions.Fraction"


def _read_entry(name: str, entry: Mapping[str, Any], k: int) -> tuple[list[Hit], list[str | None]]:
    """Titles with their thumbnails as bytes, or with the addresses where they were."""
    titles, pictures = _listed(entry.get(TITLES)), _listed(entry.get(THUMBNAILS))
    hits: list[Hit] = []
    sources: list[str | None] = []
    for rank, title in enumerate(titles[:k]):
        picture = pictures[rank] if rank < len(pictures) else None
        thumbnail = _encoded(picture) if isinstance(picture, safe_pickle.Built) else None
        text = " ".join(title.split()) if isinstance(title, str) else ""
        # The cache does not hold the pages' addresses.
        hits.append(Hit(title=text or "untitled", url=f"fvqa:{name}/{rank + 1}", thumbnail=thumbnail))
        sources.append(picture if isinstance(picture, str) else None)
    return hits, sources


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _encoded(record: safe_pickle.Built) -> bytes | None:
    picture = rebuilt(record)
    return None if picture is None else jpeg(guard.to_rgb(picture), longest=LONGEST, max_bytes=KEPT_BYTES)


def rebuilt(record: safe_pickle.Built) -> Image.Image | None:
    """A picture from the parts that Pillow pickles: metadata, mode, size, palette, raw pixels. None: they do not fit.

    Only mode, size, palette and pixels are used; all are checked before Pillow sees them.
    """
    state = record.state
    if not isinstance(state, list | tuple) or len(state) < 5:
        return None
    _, mode, size, palette, pixels = state[:5]
    if not isinstance(mode, str) or mode not in MODES or not isinstance(pixels, bytes):
        return None
    if not (
        isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    ):
        return None
    if size[0] * size[1] > guard.MAX_PIXELS:
        return None
    try:
        picture = Image.frombytes(mode, (size[0], size[1]), pixels)
        if mode == "P":
            picture.putpalette(bytes(palette))
    except (ValueError, TypeError):  # fewer pixels than the size says, or no palette
        return None
    return picture


def _index(tables: list[Path], known: Any) -> dict[str, str]:
    """Fingerprint -> data_id of every picture in the tables that has an entry; computed once for the same files."""
    stamp = json.dumps([(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in tables])
    kept = home() / "fvqa" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.json"
    try:
        index: dict[str, str] = read_json(kept.read_text("utf-8"))
        if not isinstance(index, dict):
            raise ValueError("damaged")
    except (OSError, ValueError):
        index = {}
        for path in tables:
            for data_id, data in _pictures(path):
                try:
                    index.setdefault(fingerprint(guard.open_image(data, name=data_id)), data_id)
                except guard.Refused:  # a damaged picture costs only itself
                    continue
        with writing(home()):
            write_whole(kept, json.dumps(index).encode())
    return {print_: data_id for print_, data_id in index.items() if data_id in known}


def _pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    """`(data_id, encoded picture)` of every picture in one Parquet table."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ToolFailure(
            "unavailable", f"FVQA's tables need {error.name}: pip install '.[fvqa]' in a clone of LensGraph."
        ) from error
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=BATCH, columns=["data_id", "images"])
        for batch in batches:
            for row in batch.to_pylist():
                for image in row["images"] or []:
                    if isinstance(image, Mapping) and image.get("bytes"):
                        yield str(row["data_id"]), image["bytes"]
    except (OSError, pa.ArrowException, KeyError) as error:
        said = one_line(error, 160)
        raise ToolFailure("unavailable", f"{path.name} cannot be read as a table of FVQA ({said}).") from error
