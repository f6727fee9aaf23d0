"""Index a folder of pictures and documents, so that the local tools search it.

Invariant: a file is in the index exactly once, as it was when last read, or it is listed with the reason why it could not
be read. A run reads only what is new or changed (by size and time), forgets what is gone, and commits after every
batch, so a killed run is completed by the next one.

A picture belongs to a document when the document shows it, or when both have the same name up to the ending; then a hit on
the picture leads to the document. Otherwise the picture stands for itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from lensgraph.tools import guard
from lensgraph.tools.documents import readers
from lensgraph.tools.local.embedder.by_name import SHIPPED, load_embedder
from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.index import origin
from lensgraph.tools.local.index.index_store import (
    FILE_NAME,
    DamagedIndex,
    FileRow,
    IndexStore,
    NoIndex,
    PageRow,
    PictureRow,
)
from lensgraph.tools.runtime.home import home, writing

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""Endings of files indexed as pictures. The guard reads the bytes and decides what a file really is."""
BATCH = 16
"""Files per commit: what a killed run loses at most."""
THUMBNAIL = 128
"""Longer side of a stored thumbnail, in pixels."""

Progress = Callable[[str], None]
"""Called with a file's path when it has been dealt with."""


@dataclass
class Report:
    """Counts of a run, and the files that it could not read."""

    added: int = 0
    """Files read and indexed."""
    kept: int = 0
    """Files unchanged since the last run."""
    removed: int = 0
    """Files forgotten because they are gone."""
    problems: dict[str, str] = field(default_factory=dict)
    """Path -> why the file could not be read. Files that failed before and did not change are listed again."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Kind of file that is not read, such as `.docx`, `link` or `without an ending` -> how many there are."""


def default_folder(source: Path) -> Path:
    """The index folder of a source that none was named for: in the cache folder, by the source's name and path."""
    import hashlib

    place = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    return home() / "indexes" / f"{source.resolve().name or 'root'}-{place}"


def listed(
    source: Path, passed_over: Counter[str] | None = None, unlisted: dict[str, str] | None = None
) -> dict[str, os.stat_result]:
    """Every indexable file under `source` by its relative path. Hidden files and folders are left out, links and files of other
    kinds too, and these are counted in `passed_over`. Folders that cannot be listed are named in `unlisted`, with the reason.

    Raises:
        NoIndex: `source` itself cannot be listed.
    """
    others: Counter[str] = Counter() if passed_over is None else passed_over
    found: dict[str, os.stat_result] = {}

    def note(error: OSError) -> None:
        path, why = Path(error.filename), error.strerror or "gone"
        if path == source:
            raise NoIndex(f"{str(source)!r} cannot be listed ({why}); nothing was changed. Mend the folder.") from error
        if unlisted is not None:
            unlisted[path.relative_to(source).as_posix()] = (
                f"the folder cannot be listed ({why}); what it held stays indexed"
            )

    for folder, folders, names in os.walk(source, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FILE_NAME in names:
            # An index inside the folder it indexes is not a document of it.
            folders[:] = []
            continue
        for name in sorted(names):
            path, ending = Path(folder, name), PurePosixPath(name.lower()).suffix
            if name.startswith("."):
                continue
            if path.is_symlink() or not path.is_file():
                others["link" if path.is_symlink() else "no file"] += 1
            elif ending not in PICTURES | set(readers.READERS):
                others[ending or "without an ending"] += 1
            else:
                with contextlib.suppress(FileNotFoundError):  # it was there a moment ago
                    found[path.relative_to(source).as_posix()] = path.stat()
    return found


def index_folder(
    source: Path, out: Path, *, embedder: str | None = None, progress: Callable[[Iterable[str]], Iterator[str]] = iter
) -> Report:
    """Bring the index at `out` up to date with the folder `source`.

    `embedder` None: the one the index has, or the default. `progress` wraps the paths still to be read.

    Raises:
        NoIndex: `source` is no folder, `out` is damaged or being written, or its embedder is another one.
        ToolFailure: `out` cannot be written, or the disk is full; an index that was new is gone, one that was there is as it
            was or further.
    """
    if not source.is_dir():
        raise NoIndex(f"{str(source)!r} is not a folder; give the folder that holds your pictures and documents.")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(out / "writer.lock", timeout=0), _all_or_nothing(out) as store:
                return _Run(source, store, embedder).go(progress)
        except Timeout as error:
            raise NoIndex(
                f"Another process is writing the index at {str(out)!r}; wait until it has finished."
            ) from error
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise DamagedIndex(out, error) from error


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[IndexStore]:
    """The index at `out`, open for writing. A new one is removed when an error, such as a full disk, ends its first run: half
    of it would answer as if it were whole. One that was there stays, with the batches that were committed."""
    fresh = not (out / FILE_NAME).exists()
    try:
        store = IndexStore.create(out) if fresh else IndexStore.open(out, writable=True)
        try:
            yield store
        finally:
            store.close()
    except Exception:  # not an interrupt: what it leaves goes on
        for ending in ("", "-journal", "-wal", "-shm") if fresh else ():
            (out / f"{FILE_NAME}{ending}").unlink(missing_ok=True)
        raise


class _Run:
    def __init__(self, source: Path, store: IndexStore, embedder: str | None) -> None:
        self.source = source
        self.store = store
        self.embedder_name = embedder or store.meta("embedder") or SHIPPED
        if (had := store.meta("embedder")) and had != self.embedder_name:
            raise NoIndex(
                f"The index at {str(store.folder)!r} was built with embedder {had!r}, not {self.embedder_name!r}; "
                "remove it to index with another."
            )
        self._embedder: ImageEmbedder | None = None
        self.report = Report()
        self.shows: dict[str, str] = {}

    def go(self, progress: Callable[[Iterable[str]], Iterator[str]]) -> Report:
        """Read what is new, forget what is gone, and link pictures to documents."""
        self.store.set_meta("source", str(self.source.resolve()))
        unlisted: dict[str, str] = {}
        there, known = listed(self.source, self.report.passed_over, unlisted), self.store.files()
        self.report.problems.update(unlisted)
        below = tuple(f"{folder}/" for folder in unlisted)
        gone = [path for path in known if path not in there and not path.startswith(below)]
        with self.store.transaction():
            for path in gone:
                self.store.remove_file(path)
        self.report.removed = len(gone)
        todo = []
        for path, stat in there.items():
            row = known.get(path)
            if row and (row.size, row.modified) == (stat.st_size, stat.st_mtime_ns):
                self.report.kept += not row.problem
                if row.problem:
                    self.report.problems[path] = row.problem
            else:
                todo.append(path)
        batch: list[str] = []
        for path in progress(todo):
            batch.append(path)
            if len(batch) == BATCH:
                self._commit(batch, there)
                batch = []
        self._commit(batch, there)
        self._link_pictures()
        self.store.finish()
        return self.report

    def _commit(self, batch: list[str], there: dict[str, os.stat_result]) -> None:
        pages: list[PageRow] = []
        shown: list[tuple[str, str]] = []
        pictures: list[tuple[PictureRow, Image.Image]] = []
        files: list[FileRow] = []
        for path in batch:
            problem = ""
            try:
                if PurePosixPath(path.lower()).suffix in PICTURES:
                    pictures.append(self._picture(path))
                else:
                    page, links = self._page(path)
                    pages.append(page)
                    shown += [(link, path) for link in links]
            except (readers.Unreadable, guard.Refused, OSError) as error:
                problem = str(error).removeprefix(f"{path}: ") or type(error).__name__
                self.report.problems[path] = problem
            else:
                self.report.added += 1
            files.append(FileRow(path, there[path].st_size, there[path].st_mtime_ns, problem))
        vectors = self._embed([picture for _, picture in pictures]) if pictures else None
        with self.store.transaction():
            for file in files:
                self.store.remove_file(file.path)
                self.store.set_file(file)
            self.store.add_pages(pages)
            if vectors is not None:
                self.store.add_pictures([row for row, _ in pictures], vectors)
            for link, path in shown:
                self.store.set_shown(link, path)

    def _page(self, path: str) -> tuple[PageRow, list[str]]:
        document = readers.read(path, _bytes(self.source / path, readers.MAX_BYTES))
        here = PurePosixPath(path)
        links = [_normal(here.parent / link) for link in document.pictures]
        return PageRow(path, document.title or _spoken(here), self._url(path), document.text, path), links

    def _picture(self, path: str) -> tuple[PictureRow, Image.Image]:
        data = _bytes(self.source / path, guard.MAX_FILE_BYTES)
        picture = guard.open_image(data, name=path)
        small = picture.copy()
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=80)
        # The embedder looks at a few hundred pixels: a batch of full photographs would only fill the memory.
        picture.thumbnail((1024, 1024))
        return PictureRow(path, _spoken(PurePosixPath(path)), self._url(path), "", buffer.getvalue()), picture

    def _embed(self, pictures: list[Image.Image]) -> np.ndarray:
        if self._embedder is None:
            made = load_embedder(self.embedder_name)
            origin.require_same(self.store, made)
            origin.record(self.store, self.embedder_name, made.dimension, made.fingerprint)
            self._embedder = made
        return self._embedder.embed(pictures)

    def _url(self, path: str) -> str:
        return (self.source / path).resolve().as_uri()

    def _link_pictures(self) -> None:
        """Give every picture the document it belongs to; done last, because either may have been read first."""
        titles = self.store.page_titles()
        by_stem = {str(PurePosixPath(path).with_suffix("")): path for path in titles}
        shown = self.store.shown()
        with self.store.transaction():
            for path in self.store.picture_ids():
                page = shown.get(path) or by_stem.get(str(PurePosixPath(path).with_suffix(""))) or ""
                title, url = titles.get(page, (_spoken(PurePosixPath(path)), self._url(path)))
                self.store.set_picture_page(PictureRow(path, title, url, page if page in titles else ""))


def _bytes(path: Path, cap: int) -> bytes:
    size = path.stat().st_size
    if size > cap:
        raise readers.Unreadable(f"{size:,} bytes is over the cap of {cap:,}")
    return path.read_bytes()


def _spoken(path: PurePosixPath) -> str:
    """A file name as a title: `ponte_vecchio-2.jpg` -> `ponte vecchio 2`."""
    return " ".join(path.stem.replace("_", " ").replace("-", " ").split()) or path.name


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in (".", "/"):
            parts.append(part)
    return "/".join(parts)
