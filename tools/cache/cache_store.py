"""The table behind the cache: one SQLite file that several processes share.

Invariants: a value is there whole or not at all; the sum of the sizes stays at or below the cap, least recently used
entries go first; a claim (somebody is asking this right now) ends by itself when its holder no longer renews it, so a
killed process blocks nobody for much longer than `LEASE_SECONDS`, also when the clock is set back; an entry that is further
in the future than its own time to live was made by another clock, and counts as gone; a value is on the disk when `put`
returns. All methods block for a moment: call them from a thread.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lensgraph.tools.cache.key import NEAR, SCALED, Question, difference, same_shape

FILE = "tools.v1.sqlite"
LEASE_SECONDS = 5.0
"""Seconds that a claim holds without being renewed."""
OVERHEAD_BYTES = 300
"""Rough size of a row besides its value and its sketch."""
KEPT_WHEN_FULL = 0.9
"""Share of the cap that an eviction leaves filled, so that not every new entry evicts one."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, tool TEXT NOT NULL, space TEXT NOT NULL, value BLOB NOT NULL, price REAL NOT NULL,
    made REAL NOT NULL, expires REAL NOT NULL, used REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
    width INTEGER, height INTEGER, light INTEGER, sketch BLOB);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used);
CREATE INDEX IF NOT EXISTS entries_near ON entries (space, width, height, light) WHERE sketch IS NOT NULL;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries BEGIN UPDATE total SET bytes = bytes + new.size; END;
CREATE TRIGGER IF NOT EXISTS entry_removed AFTER DELETE ON entries BEGIN UPDATE total SET bytes = bytes - old.size; END;
"""
_FRESH = "expires > ? AND 2 * made - expires < ? AND made > ? AND made < ?"


@dataclass(frozen=True)
class Found:
    """A kept value."""

    value: bytes
    near: bool
    """True: it was kept for a nearly equal picture."""
    key: str
    """Key of the question that it was kept for."""


@dataclass(frozen=True)
class ToolStats:
    """Kept answers of one tool, counted."""

    tool: str
    entries: int
    bytes: int
    hits: int
    """Times that a kept value was given out."""
    saved: float
    """US dollars that these calls would have cost."""


class Store:
    """The table of one file.

    Args:
        folder: folder of the file; made when the first value is kept.
        max_bytes: cap on the sum of the entries' sizes.
        max_age: seconds after which a value is not given out, whatever its own time to live. None: its own decides.
        readonly: never write, not even which entries were used, and give out values of any age.
        clock: seconds since 1970; tests turn their own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        max_age: float | None = None,
        readonly: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = folder / FILE
        self._max_bytes, self._max_age, self._readonly, self._clock = max_bytes, max_age, readonly, clock
        self._after_fork()
        _stores.add(self)

    def _after_fork(self) -> None:
        """A child process opens the file anew: SQLite forbids sharing a connection."""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def look(self, key: str, space: str, question: Question) -> Found | None:
        """The value of this key, or of a nearly equal picture asked of the same tool; counts as a use."""
        with self._open() as db:
            return self._look(db, key, space, question)

    def look_or_claim(self, key: str, space: str, question: Question, owner: str) -> Found | bool:
        """The value; True: there is none, and `owner` now holds the claim; False: another owner holds it."""
        with self._open() as db, _writing(db):
            found = self._look(db, key, space, question)
            if found is not None:
                return found
            now = self._clock()
            until = now + LEASE_SECONDS
            # One from far in the future was made before the clock was set back.
            ended = "DELETE FROM claims WHERE key = ? AND (until <= ? OR until > ?)"
            db.execute(ended, (key, now, until + LEASE_SECONDS))
            taken = db.execute("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", (key, owner, until))
            return taken.rowcount == 1

    def renew(self, key: str, owner: str) -> None:
        """Extend the claim: its holder is alive."""
        with self._open() as db, _writing(db):
            until = self._clock() + LEASE_SECONDS
            db.execute("UPDATE claims SET until = ? WHERE key = ? AND owner = ?", (until, key, owner))

    def release(self, key: str, owner: str) -> None:
        """Give the claim back without a value."""
        with self._open() as db, _writing(db):
            db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner))

    def put(
        self, key: str, space: str, question: Question, owner: str, *, tool: str, value: bytes, price: float, ttl: float
    ) -> int:
        """Keep a value and give the claim back; returns the number of entries that were evicted for it."""
        size = len(value) + len(question.sketch or b"") + OVERHEAD_BYTES
        width, height = question.size or (None, None)
        light = _light(question.sketch) if question.sketch else None
        now = self._clock()
        with self._open() as db:
            db.execute("PRAGMA synchronous = FULL")  # it was paid for
            with _writing(db):
                db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner))
                if size > self._max_bytes:
                    return 0
                # Not REPLACE: it does not run the trigger that subtracts the old size.
                db.execute("DELETE FROM entries WHERE key = ?", (key,))
                db.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
                    (key, tool, space, value, price, now, now + ttl, now, size, width, height, light, question.sketch),
                )
                gone = self._evict(db, now)
            db.execute("PRAGMA synchronous = NORMAL")
            if gone:
                db.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def forget(self, key: str) -> None:
        """Drop a value that cannot be read."""
        with self._open() as db, _writing(db):
            db.execute("DELETE FROM entries WHERE key = ?", (key,))

    def stats(self) -> list[ToolStats]:
        """Entries counted tool by tool; empty if there is no file yet."""
        if not self.path.exists():
            return []
        with self._open() as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
                return []  # an empty file
            rows = db.execute(
                "SELECT tool, count(*), sum(size), sum(hits), sum(hits * price) FROM entries GROUP BY tool ORDER BY tool"
            ).fetchall()
        return [ToolStats(*row) for row in rows]

    def clear(self) -> int:
        """Forget everything; returns the number of entries. A damaged file is removed."""
        if not self.path.exists():
            return 0
        try:
            with self._open() as db:
                with _writing(db):
                    count = int(db.execute("SELECT count(*) FROM entries").fetchone()[0])
                    db.execute("DELETE FROM entries")
                    db.execute("DELETE FROM claims")
                db.execute("PRAGMA incremental_vacuum").fetchall()
            return count
        except sqlite3.OperationalError:  # in use, or it may not be written
            raise
        except sqlite3.DatabaseError:
            self.close()
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            return 0

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _look(self, db: sqlite3.Connection, key: str, space: str, question: Question) -> Found | None:
        now = self._clock()
        # The times of expiry and of making must lie within these: a value recorded for ever may be used for less now.
        age = math.inf if self._max_age is None else self._max_age
        fresh = (-math.inf, math.inf, -math.inf, math.inf) if self._readonly else (now, now, now - age, now + age)
        row = db.execute(f"SELECT key, value FROM entries WHERE key = ? AND {_FRESH}", (key, *fresh)).fetchone()
        near = False
        if row is None and question.sketch is not None and question.size is not None:
            near, row = True, self._nearest(db, space, question, fresh)
        if row is None:
            return None
        if not self._readonly:
            db.execute("UPDATE entries SET used = ?, hits = hits + 1 WHERE key = ?", (self._clock(), row[0]))
        return Found(row[1], near, row[0])

    @staticmethod
    def _nearest(
        db: sqlite3.Connection, space: str, question: Question, fresh: tuple[float, float, float, float]
    ) -> tuple[str, bytes] | None:
        assert question.size is not None and question.sketch is not None
        light = _light(question.sketch)
        (width, height), more = question.size, SCALED * 1.1
        rows = db.execute(
            "SELECT key, value, sketch, width, height FROM entries WHERE sketch IS NOT NULL AND typeof(sketch) = 'blob' "
            f"AND space = ? AND width BETWEEN ? AND ? AND height BETWEEN ? AND ? AND light BETWEEN ? AND ? AND {_FRESH}",
            (
                space, width * (1 - more) - 2, width * (1 + more) + 2, height * (1 - more) - 2, height * (1 + more) + 2,
                light - NEAR, light + NEAR, *fresh,
            ),
        )  # fmt: skip
        best: tuple[int, str, bytes] | None = None
        for key, value, sketch, *size in rows:
            if not same_shape(question.size, (size[0], size[1])):
                continue
            apart = difference(question.sketch, sketch)
            if apart <= NEAR and (best is None or apart < best[0]):
                best = (apart, key, value)
        return best and best[1:]

    def _evict(self, db: sqlite3.Connection, now: float) -> int:
        if db.execute("SELECT bytes FROM total").fetchone()[0] <= self._max_bytes:
            return 0
        gone = db.execute("DELETE FROM entries WHERE expires <= ? OR 2 * made - expires >= ?", (now, now)).rowcount
        total = db.execute("SELECT bytes FROM total").fetchone()[0]
        if total <= self._max_bytes:
            return gone
        room, doomed = total - self._max_bytes * KEPT_WHEN_FULL, []
        for key, size in db.execute("SELECT key, size FROM entries ORDER BY used"):
            if room <= 0:
                break
            doomed.append((key,))
            room -= size
        db.executemany("DELETE FROM entries WHERE key = ?", doomed)
        return gone + len(doomed)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection

    def _connect(self) -> sqlite3.Connection:
        # Autocommit, so that transactions are where `_writing` says.
        if self._readonly:
            fixed = "" if os.access(self.path.parent, os.W_OK) else "&immutable=1"
            address = f"file:{quote(str(self.path.absolute()))}?mode=ro{fixed}"
            return sqlite3.connect(address, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds what people asked
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # holds for a new file only
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 4000000")
            with _writing(db):
                for statement in _statements(_SCHEMA):
                    db.execute(statement)
        except BaseException:
            db.close()
            raise
        return db


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _writing(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction that takes the write lock at its start, so that it never fails half way for want of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit between them."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _light(sketch: bytes) -> int:
    """The mean of a sketch: sketches that differ nowhere by more than `NEAR` do not differ by more in the mean."""
    return sum(sketch) // max(1, len(sketch))
