"""Where this machine keeps what the package builds for itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.results import ToolFailure

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
    """Turn what the system says against writing below `folder` into one line.

    Raises:
        ToolFailure: it said something.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ToolFailure(
            "unavailable", f"{folder}: cannot be written ({why}); set {VARIABLE} to a folder that you may write to."
        ) from error
