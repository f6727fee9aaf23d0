"""Opens the index that a local tool searches: the folder it was given, or the embedded world."""

from __future__ import annotations

from pathlib import Path

from lensgraph.tools.local.index.engine import SNIPPET_CHARS, LocalEngine
from lensgraph.tools.runtime.home import home


def open_engine(index: Path | None, *, snippet_chars: int = SNIPPET_CHARS, embedder: str | None = None) -> LocalEngine:
    """An open engine; the embedded world is built first where it does not exist yet."""
    if index is None:
        from lensgraph.tools.local.world.world_index import ensure  # only the embedded world needs its builder

        index = ensure(home())
    return LocalEngine.open(index.expanduser(), snippet_chars=snippet_chars, embedder=embedder)
