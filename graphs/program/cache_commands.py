"""`lensgraph cache stats|clear`: the kept answers of the tools."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from lensgraph.agent.errors import UserError
from lensgraph.tools.cache import Cache, CacheSettings, Mode


def stats(given: argparse.Namespace) -> int:
    """Print answers, bytes, hits and dollars saved, by tool."""
    with _opened(given.folder, "replay") as cache:  # which writes nothing
        rows = cache.stats()
    if given.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    for row in rows:
        size = f"{row.entries} answers, {row.bytes:,} bytes"
        print(f"{row.tool}: {size}, given out {row.hits} times, {row.saved:.4f} USD saved")
    print(f"{sum(row.entries for row in rows)} answers, {sum(row.bytes for row in rows):,} bytes in {cache.folder}")
    return 0


def clear(given: argparse.Namespace) -> int:
    """Delete every kept answer."""
    with _opened(given.folder) as cache:
        count = cache.clear()
    print(json.dumps({"forgotten": count}) if given.json else f"{count} answers forgotten in {cache.folder}")
    return 0


@contextmanager
def _opened(folder: str | None, mode: Mode = "use") -> Iterator[Cache]:
    """The cache of a folder, closed at the end."""
    cache = Cache(CacheSettings(folder=folder, mode=mode))
    try:
        yield cache
    except (sqlite3.Error, OSError) as error:
        raise UserError(
            f"{cache.store.path} cannot be used ({error}); mend the folder, or remove a damaged file with `lensgraph cache clear`"
        ) from error
    finally:
        cache.store.close()
