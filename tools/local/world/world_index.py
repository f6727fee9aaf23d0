"""The world's own local index: built on first use, in seconds, from the installed packages and the shipped vectors.

Invariant: the index that `ensure` returns is complete and fits this version of the pages, the pictures and the embedder.
The folder's name is a fingerprint of all that goes into it, it appears by one rename, and a lock lets one process build
while the others wait; so a killed build leaves nothing behind, and an upgrade builds a new index instead of mixing two.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

from lensgraph.tools.local.embedder.by_name import SHIPPED
from lensgraph.tools.local.index import index_store, origin
from lensgraph.tools.local.index.index_store import IndexStore, PageRow, PictureRow
from lensgraph.tools.local.world import entities, pages, renditions
from lensgraph.tools.local.world.entities import DATA, Entity
from lensgraph.tools.runtime.home import home as default_home
from lensgraph.tools.runtime.home import writing

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

BUILDING = "world-building-"
"""Beginning of the name of a folder in which an index is being built."""
UNUSED_S = 24 * 3600.0
"""Time that an index of another version is kept after it was last opened, in seconds."""


def fingerprint() -> str:
    """Changes when anything that decides the index's content does."""
    digest = hashlib.sha256(index_store.FORMAT.encode())
    for name, version in sorted(pages.versions().items()):
        digest.update(f"{name}=={version};".encode())
    for source in (Path(pages.__file__), Path(__file__), DATA / "entities.jsonl", DATA / "vectors.npz"):
        digest.update(source.read_bytes() if source.exists() else b"none")
    return digest.hexdigest()[:12]


def ensure(home: Path | str | None = None, progress: bool = True) -> Path:
    """The folder of the world's index, built now if it is not there.

    `home` is the folder that holds it (None: `lensgraph.tools.runtime.home.home()`); `progress` shows a bar on stderr
    while it is built.

    Raises:
        ToolFailure: it is not there, and nothing can be written where it belongs, or there is no room for it.
    """
    root = Path(home) if home is not None else default_home()
    folder = root / f"world-{fingerprint()}"
    with writing(root):
        if (folder / index_store.FILE_NAME).is_file():
            with contextlib.suppress(OSError):  # in a folder that may only be read nothing is tidied up
                os.utime(folder)
            return folder
        with _builders(root):
            # Somebody else may have built it while this process waited.
            if not (folder / index_store.FILE_NAME).is_file():
                _make(root, folder, progress)
            _forget_old(root, folder)
    return folder


def rebuild(home: Path | str | None = None, progress: bool = True) -> Path:
    """As `ensure`, in place of an index that turned out to be damaged: one that is sound by now, because another process
    has built it anew, stays.

    Raises:
        ToolFailure: nothing can be written where it belongs, or there is no room for it.
    """
    root = Path(home) if home is not None else default_home()
    folder = root / f"world-{fingerprint()}"
    with writing(root), _builders(root):
        if not index_store.is_sound(folder):
            _make(root, folder, progress)
    return folder


def _builders(root: Path) -> FileLock:
    """The lock that lets one process build at a time."""
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / "world.lock")


def _make(root: Path, folder: Path, progress: bool) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=BUILDING, dir=root))
    try:
        build(scratch / "index", progress=progress)
        shutil.rmtree(folder, ignore_errors=True)
        (scratch / "index").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def build(folder: Path, *, progress: bool = True) -> None:
    """Write a fresh index of the world into `folder`, which must not exist."""
    index = IndexStore.create(folder)
    try:
        with _bar(progress) as track, index.transaction():
            index.add_pages(
                PageRow(id=page.id, title=page.title, url=page.url, text=page.text, source=page.source)
                for page in track(pages.pages(), 12_500, "Indexing the embedded web")
            )
            rows, vectors, made_by = _pictures()
            index.add_pictures(rows, vectors)
            origin.record(index, SHIPPED, vectors.shape[1], made_by)
        index.finish()
    finally:
        index.close()


def _pictures() -> tuple[list[PictureRow], np.ndarray, str]:
    """The indexed drawings, the vectors that ship, and the fingerprint of the embedder that made them.

    The embedder is not loaded: on a fresh machine its weights would only cost time here.
    """
    import numpy as np

    with np.load(DATA / "vectors.npz") as arrays:
        # Keys read "entity artist view"; the index holds the plain drawings.
        place = {str(key).removesuffix(" drawing"): row for row, key in enumerate(arrays["keys"])}
        vectors, made_by = arrays["vectors"].astype(np.float32), str(arrays["fingerprint"])
    keys = [
        (entity, rendition)
        for entity in entities.load_entities()
        for rendition in renditions.INDEXED[entity.kind]
        if renditions.has(entity.id, rendition)
    ]
    chosen = vectors[[place[f"{entity.id} {rendition}"] for entity, rendition in keys]]
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    return [_row(entity, rendition) for entity, rendition in keys], chosen, made_by


def _row(entity: Entity, rendition: str) -> PictureRow:
    page_id, url = front_page(entity)
    return PictureRow(
        id=f"{entity.id} {rendition}",
        title=picture_title(entity),
        url=url,
        # Both drawings of an entity are one hit, whether or not a page of the world is about it.
        page_id=page_id,
        thumbnail=renditions.encoded(rendition)[entity.id],
    )


FLAG_OF = "Flag of "
"""Beginning of the title of a flag's drawing."""


def picture_title(entity: Entity) -> str:
    """Title of a hit on a drawing of the entity."""
    if entity.kind == "flag":
        return FLAG_OF + entity.name
    return entity.name[:1].upper() + entity.name[1:]


def subject(title: str) -> str:
    """The subject of a picture with this title: the country of a flag, or the thing itself."""
    return title.removeprefix(FLAG_OF)


def front_page(entity: Entity) -> tuple[str, str]:
    """Id and address of the page that a drawing of the entity belongs to."""
    if entity.kind == "flag" and entity.gec:
        return pages.profile_page_id(entity.gec, "Introduction"), pages.profile_url(entity.gec, "Introduction")
    # Two things may share a lead (a red and a green apple): their drawings stay two hits.
    address = pages.lead_url(entity.wiki_title) if entity.wiki_title else f"world:{entity.id.replace(':', '/')}"
    return f"drawing:{entity.id}", address


def _forget_old(root: Path, keep: Path) -> None:
    """Remove indexes that no version of the package has opened for `UNUSED_S`: a long run of another one may hold one open."""
    for folder in root.glob("world-*"):
        # this process holds the lock of builders, so a folder that is being built was left by a killed one
        stale = folder.name.startswith(BUILDING) or time.time() - folder.stat().st_mtime > UNUSED_S
        if folder != keep and folder.is_dir() and stale:
            shutil.rmtree(folder, ignore_errors=True)


Track = Callable[[Iterable[T], int, str], Iterator[T]]
"""Wraps things (about how many, label) to show progress."""


@contextmanager
def _bar(shown: bool) -> Iterator[Track[pages.WorldPage]]:
    """`track(things, about how many, label)`, with a bar on stderr or without."""
    if not shown:
        yield lambda things, total, label: iter(things)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield lambda things, total, label: iter(bar.track(things, total=total, description=label))
