"""The folder of indexes and caches on this machine, and errors of writing there in one line."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lensgraph.tools.results import ToolFailure

VARIABLE = "LENSGRAPH_HOME"
"""Environment variable that overrides the default."""


def home() -> Path:
    """The folder for indexes and caches: LENSGRAPH_HOME, or the platform's cache folder."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "lensgraph"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write below `folder`, and a full disk or quota, into one line.

    Raises:
        ToolFailure: an `OSError` came up in the block, or SQLite's error for one.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        place = f"set {VARIABLE} (for an index of your own also --out) to a folder"
        why = getattr(error, "strerror", None) or str(error)
        said = f"cannot be written ({why}); {place} that you may write to"
        if _is_full(error):
            said = f"the disk is full, and no half index is left; make room, or {place} on another disk"
        raise ToolFailure("unavailable", f"{folder}: {said}.") from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "disk is full" in str(error)  # SQLite's text for SQLITE_FULL
