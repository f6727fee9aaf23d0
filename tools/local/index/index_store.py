"""The embedded database of a local index: pages with a full-text index, pictures with vectors, files
with their state.

One folder, one SQLite file, opened in milliseconds; nothing to install and no server. Full text is FTS5
(BM25 with a weight for the title, Porter stemming, accents ignored). Vectors are rows of float16,
searched exactly: at 100,000 pictures that is still a few tens of milliseconds, so an approximate index
would buy nothing but error.

Invariant: a transaction either holds a page with its words, or a file with all that was read from it, or
nothing of it. A killed writer leaves an index that opens, and that the next run completes.

`python tests/checks databases` compares it with LanceDB, on the time to import, which every answer pays, and on
plain full-text search.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensgraph.tools.results import ToolFailure

if TYPE_CHECKING:
    import numpy as np

FILE_NAME = "index.sqlite"
"""The database inside an index folder."""
FORMAT = "1"
"""Version of the schema. Raised when an old index can no longer be read."""
TITLE_WEIGHT = 4.0
"""Weight of a word in the title; a word in the text has weight 1."""

_SCHEMA = """
create table meta (key text primary key, value text not null);
create table pages (
    rowid integer primary key, id text unique not null, title text not null, url text not null,
    text text not null, source text not null
);
create virtual table words using fts5 (
    title, text, content='pages', content_rowid='rowid', tokenize='porter unicode61 remove_diacritics 2'
);
create trigger page_added after insert on pages begin
    insert into words (rowid, title, text) values (new.rowid, new.title, new.text);
end;
create trigger page_removed after delete on pages begin
    insert into words (words, rowid, title, text) values ('delete', old.rowid, old.title, old.text);
end;
create table pictures (
    rowid integer primary key, id text unique not null, title text not null, url text not null,
    page_id text not null, thumbnail blob, vector blob not null
);
create table files (
    path text primary key, size integer not null, modified integer not null, problem text not null
);
create table shown (picture text not null, page text not null, primary key (picture, page));
"""


class NoIndex(ToolFailure, ValueError):
    """There is no usable index here. The message names the folder and the command that builds one."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class DamagedIndex(NoIndex):
    """The file of an index is cut off, overwritten or gone."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(f"The index at {str(folder)!r} is damaged ({error}); remove it and index again.")


@dataclass(frozen=True)
class PageRow:
    """One document."""

    id: str
    """Unique in the index."""
    title: str
    """The document's own title."""
    url: str
    """Address at which a person finds it."""
    text: str
    """Plain text; lines and paragraphs end with a newline."""
    source: str = ""
    """Its origin, for example the path of its file. Empty: unknown."""


@dataclass(frozen=True)
class PictureRow:
    """One indexed picture."""

    id: str
    """Unique in the index."""
    title: str
    """Title of a hit on it."""
    url: str
    """Address that a hit on it leads to."""
    page_id: str = ""
    """Pictures with the same page are one hit. Empty: the picture stands for itself."""
    thumbnail: bytes | None = None
    """Small encoded picture for the hit. None: a hit shows none."""


@dataclass(frozen=True)
class FileRow:
    """A file that the folder indexer has dealt with."""

    path: str
    """Relative to the indexed folder, with `/`."""
    size: int
    """Bytes when it was read."""
    modified: int
    """Modification time in nanoseconds when it was read."""
    problem: str = ""
    """Why it could not be read. Empty: it is indexed."""


class IndexStore:
    """One index folder, open for reading or for writing."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        self.folder = folder
        self.writable = writable
        self._file = folder / FILE_NAME
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []

    @classmethod
    def create(cls, folder: Path) -> IndexStore:
        """An empty index in `folder`, which must not hold one yet."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / FILE_NAME).exists():
            raise NoIndex(f"{folder} already holds an index; remove it or choose another folder.")
        store = cls(folder, writable=True)
        try:
            store._connection.executescript(_SCHEMA)
            store.set_meta("format", FORMAT)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> IndexStore:
        """The index in `folder`, or `NoIndex` with the command that builds one."""
        if not (folder / FILE_NAME).is_file():
            raise NoIndex(f"No index at {str(folder)!r}. Build one with 'lensgraph index FOLDER --out {folder}'.")
        store = cls(folder, writable=writable)
        with store.undamaged():
            _recover(folder / FILE_NAME)
            found = store.meta("format")
        if found != FORMAT:
            raise NoIndex(
                f"The index at {str(folder)!r} has format {found!r}, this version reads {FORMAT!r}; "
                "remove it and index again."
            )
        return store

    @property
    def _connection(self) -> sqlite3.Connection:
        # One connection a thread: searches run in worker threads, and SQLite reads in parallel.
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self.writable:
                connection = sqlite3.connect(self._file, check_same_thread=False)
            else:
                address = f"{self._file.resolve().as_uri()}?mode=ro"
                connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._local.connection = connection
            self._all.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection; the store is not used afterwards."""
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._local = threading.local()

    @contextmanager
    def undamaged(self) -> Iterator[None]:
        """Tell what SQLite finds wrong with the file in one line.

        Raises:
            DamagedIndex: it is no whole index.
            NoIndex: another process is writing it.
        """
        try:
            yield
        except sqlite3.Error as error:
            if error.sqlite_errorname == "SQLITE_BUSY":
                raise NoIndex(f"The index at {str(self.folder)!r} is being written; try again later.") from error
            raise DamagedIndex(self.folder, error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are kept, or none."""
        with self._connection:
            yield

    # --- writing ---------------------------------------------------------------------------------------

    def set_meta(self, key: str, value: str) -> None:
        """Remember a fact about the whole index."""
        alone = not self._connection.in_transaction
        self._connection.execute("insert or replace into meta values (?, ?)", (key, value))
        if alone:
            self._connection.commit()

    def add_pages(self, rows: Iterable[PageRow]) -> None:
        """Add pages with their words. Ids must be new."""
        self._connection.executemany(
            "insert into pages (id, title, url, text, source) values (?, ?, ?, ?, ?)",
            ((row.id, row.title, row.url, row.text, row.source) for row in rows),
        )

    def add_pictures(self, rows: Sequence[PictureRow], vectors: np.ndarray) -> None:
        """Add pictures with their vectors, one row each. Ids must be new."""
        if len(rows) != len(vectors):
            raise ValueError(f"{len(rows)} pictures but {len(vectors)} vectors; give one vector a picture.")
        halves = vectors.astype("<f2")
        self._connection.executemany(
            "insert into pictures (id, title, url, page_id, thumbnail, vector) values (?, ?, ?, ?, ?, ?)",
            (
                (row.id, row.title, row.url, row.page_id, row.thumbnail, half.tobytes())
                for row, half in zip(rows, halves, strict=True)
            ),
        )

    def set_picture_page(self, row: PictureRow) -> None:
        """Change what a hit on the picture `row.id` is called and where it leads."""
        self._connection.execute(
            "update pictures set title = ?, url = ?, page_id = ? where id = ?",
            (row.title, row.url, row.page_id, row.id),
        )

    def set_shown(self, picture_id: str, page_id: str) -> None:
        """Remember that a page shows a picture, which may not be indexed yet."""
        self._connection.execute("insert or ignore into shown values (?, ?)", (picture_id, page_id))

    def set_file(self, row: FileRow) -> None:
        """Remember that a file was dealt with."""
        self._connection.execute(
            "insert or replace into files values (?, ?, ?, ?)",
            (row.path, row.size, row.modified, row.problem),
        )

    def remove(self, ids: Iterable[str]) -> None:
        """Forget pages and pictures by id; unknown ids are ignored."""
        rows = [(id_,) for id_ in ids]
        for table in ("pages", "pictures"):
            self._connection.executemany(f"delete from {table} where id = ?", rows)

    def remove_file(self, path: str) -> None:
        """Forget a file and all that was read from it."""
        self.remove([path])
        self._connection.execute("delete from files where path = ?", (path,))
        self._connection.execute("delete from shown where page = ?", (path,))

    def finish(self) -> None:
        """Merge the full-text index into one segment, so that searches are fastest, and write all to disk."""
        self._connection.commit()
        self._connection.execute("insert into words (words) values ('optimize')")
        self._connection.commit()

    # --- reading ---------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """A fact about the whole index, or None."""
        row = self._connection.execute("select value from meta where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def count(self, table: str) -> int:
        """Number of rows of `pages`, `pictures` or `files`."""
        if table not in ("pages", "pictures", "files"):
            raise ValueError(f"No table {table!r}; tables are pages, pictures, files.")
        return int(self._connection.execute(f"select count(*) from {table}").fetchone()[0])

    def files(self) -> dict[str, FileRow]:
        """Every file dealt with, by path."""
        rows = self._connection.execute("select path, size, modified, problem from files")
        return {row[0]: FileRow(*row) for row in rows}

    def page(self, page_id: str) -> PageRow | None:
        """One page by its id."""
        found = self._connection.execute(
            "select id, title, url, text, source from pages where id = ?", (page_id,)
        ).fetchone()
        return None if found is None else PageRow(*found)

    def shown(self) -> dict[str, str]:
        """Picture -> the first page that shows it."""
        return dict(self._connection.execute("select picture, min(page) from shown group by picture").fetchall())

    def picture_ids(self) -> list[str]:
        """The id of every picture."""
        return [str(row[0]) for row in self._connection.execute("select id from pictures order by rowid")]

    def page_titles(self) -> dict[str, tuple[str, str]]:
        """Title and address of every page, by id."""
        rows = self._connection.execute("select id, title, url from pages")
        return {row[0]: (row[1], row[2]) for row in rows}

    def pages_with(self, word: str) -> int:
        """In how many pages a word occurs, in any inflection the index takes for the same."""
        query = "select count(*) from words where words match ?"
        return int(self._connection.execute(query, (_quote(word),)).fetchone()[0])

    def match(self, words: Sequence[str], limit: int) -> list[tuple[PageRow, float]]:
        """Pages with any of the words and their BM25 score, best (highest) first."""
        if not words:
            return []
        rows: list[Any] = self._connection.execute(
            "select id, p.title, url, p.text, source, -score from (select rowid as found, bm25(words, ?, 1.0) as score "
            "from words where words match ? order by score limit ?) join pages p on p.rowid = found order by score",
            (TITLE_WEIGHT, " OR ".join(_quote(word) for word in words), limit),
        ).fetchall()
        return [(PageRow(*row[:5]), float(row[5])) for row in rows]

    def pictures(self, rowids: Sequence[int]) -> dict[int, PictureRow]:
        """Pictures by row."""
        marks = ",".join("?" * len(rowids))
        rows = self._connection.execute(
            f"select rowid, id, title, url, page_id, thumbnail from pictures where rowid in ({marks})",
            list(rowids),
        )
        return {row[0]: PictureRow(*row[1:]) for row in rows}

    def vectors(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """All vectors as float32 rows, the row number and the page (or own id) of each."""
        import numpy as np  # text searches do not pay for it

        rows = self._connection.execute(
            "select rowid, case page_id when '' then id else page_id end, vector from pictures order by rowid"
        ).fetchall()
        if not rows:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.int64), []
        try:
            matrix = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f2").reshape(len(rows), -1)
        except (TypeError, ValueError) as error:
            raise DamagedIndex(self.folder, error) from error
        return matrix.astype(np.float32), np.array([row[0] for row in rows]), [row[1] for row in rows]


def is_sound(folder: Path) -> bool:
    """Whether the folder holds an index whose file is whole, its full-text index included; reads all of it."""
    try:
        connection = sqlite3.connect(folder / FILE_NAME)
        try:
            connection.execute("insert into words (words) values ('integrity-check')")
            return bool(connection.execute("pragma integrity_check(1)").fetchone() == ("ok",))
        finally:
            connection.close()
    except sqlite3.Error:
        return False


def _recover(file: Path) -> None:
    """Undo what a killed writer left half done; a read-only connection may not."""
    if file.with_name(file.name + "-journal").exists():
        connection = sqlite3.connect(file)
        connection.execute("select count(*) from sqlite_master").fetchone()
        connection.close()


def _quote(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
