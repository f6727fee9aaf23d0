"""Where this machine keeps what the package builds for itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
