"""LangGraph's checkpointers for SQLite and PostgreSQL, opened from one address; they keep the threads.

Invariants: a checkpoint holds text, numbers and picture ids. The pictures lie in `images.folder`, which belongs to a
thread as much as its checkpoints do. A database that is full, gone or damaged is one line, and the thread goes on when that
is mended; it goes on from its last checkpoint also when the clock was set back.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.base import id as checkpoint_ids
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from lensgraph.agent.errors import StorageError, UserError
from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.redact import without_logins

POSTGRES = ("postgresql://", "postgres://")
SQLITE = "sqlite:///"


class Compressed(SerializerProtocol):
    """LangGraph's serializer, with zlib behind it. A checkpoint repeats the whole conversation, which is mostly text."""

    MARK = "+zlib"

    def __init__(self, inner: SerializerProtocol) -> None:
        self.inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The inner serializer's bytes, compressed where that is smaller; the mark in the type says so."""
        kind, data = self.inner.dumps_typed(obj)
        small = zlib.compress(data)
        return (kind + self.MARK, small) if len(small) < len(data) else (kind, data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that `dumps_typed` or the inner serializer wrote."""
        kind, body = data
        if kind.endswith(self.MARK):
            kind, body = kind.removesuffix(self.MARK), zlib.decompress(body)
        return self.inner.loads_typed((kind, body))


@asynccontextmanager
async def saver(address: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """The checkpointer at an address, its tables made: `memory`, `sqlite:///threads.db`, or `postgresql://user@host/name`.

    Keep a password out of the address: PostgreSQL's client reads `PGPASSWORD` and `~/.pgpass`.
    """
    if address == "memory":
        yield InMemorySaver()
    elif address.startswith(SQLITE) and len(address) > len(SQLITE):
        async with _sqlite(address.removeprefix(SQLITE)) as made:
            yield _careful(made, address)
    elif address.startswith(POSTGRES):
        async with _postgres(address) as made:
            yield _careful(made, address)
    else:
        raise UserError(
            f"{without_logins(address)[:60]!r} is no address of threads; give memory, sqlite:///FILE or postgresql://..."
        )


def _careful(made: Any, address: str) -> BaseCheckpointSaver[Any]:
    """The saver, compressing, with failures of one line and checkpoints that follow each other."""
    kind: Any = type(made)

    class Careful(kind):
        async def aget_tuple(self, config: Any) -> Any:
            with _failures(address):
                found = await super().aget_tuple(config)
            if found is not None:
                _follow(found.checkpoint["id"])
            return found

        async def aput(self, *given: Any, **named: Any) -> Any:
            with _failures(address):
                return await super().aput(*given, **named)

        async def aput_writes(self, *given: Any, **named: Any) -> None:
            with _failures(address):
                await super().aput_writes(*given, **named)

    made.serde, made.__class__ = Compressed(made.serde), Careful
    return made


@contextmanager
def _failures(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the boundary to a database: its driver's errors, and those of reading what is damaged
        raise StorageError(
            f"{without_logins(address)[:200]}: the thread cannot be read or kept ({one_line(error, 120)}); make room or mend "
            "the database, then go on with the thread, or start another."
        ) from error


def _follow(identity: str) -> None:
    """Let this process's next checkpoint be later than this one. LangGraph sorts checkpoints by the time in their ids, and
    would go on from an old one if the clock was set back in between."""
    try:
        known = checkpoint_ids.UUID(identity)
    except ValueError:  # an id of somebody else's making
        return
    if known.version == 6 and known.time > (checkpoint_ids._last_v6_timestamp or 0):
        checkpoint_ids._last_v6_timestamp = known.time  # type: ignore[assignment]


@asynccontextmanager
async def _sqlite(name: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as error:
        raise UserError("threads in SQLite need a package: pip install '.[threads]' in a clone of LensGraph") from error
    path = Path(name).expanduser()
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    async with AsyncExitStack() as open_now:
        try:
            made = await open_now.enter_async_context(AsyncSqliteSaver.from_conn_string(str(path)))
            await made.setup()
        except sqlite3.Error as error:
            raise UserError(
                f"{path}: no database of threads ({error}); give another file, or remove this one"
            ) from error
        yield made


@asynccontextmanager
async def _postgres(address: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg import AsyncConnection, Error, ProgrammingError
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool, PoolTimeout
    except ImportError as error:
        raise UserError(
            "threads in PostgreSQL need packages: pip install '.[threads]' in a clone of LensGraph"
        ) from error
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    # A pool, because one connection would serve the threads one after the other.
    pool: Any = AsyncConnectionPool(address, kwargs=options, open=False, min_size=1, max_size=10)
    try:
        # Alone first: a pool would try again and again, and log each time, before it says that nobody is there.
        await (await AsyncConnection.connect(address, connect_timeout=10)).close()
        await pool.open(wait=True, timeout=10)
    except ProgrammingError:  # its text may hold the password
        await pool.close()
        raise UserError(
            f"{without_logins(address)[:60]}: no address of a PostgreSQL database; write postgresql://user:password@host/name, "
            "and characters such as % and spaces in the password as %25 and %20"
        ) from None
    except (PoolTimeout, Error) as error:
        await pool.close()
        raise UserError(
            f"no PostgreSQL at {without_logins(address)[:60]} ({one_line(error, 80)}); start it, or correct the address"
        ) from error
    async with pool:
        made = AsyncPostgresSaver(pool)
        await made.setup()
        yield made
