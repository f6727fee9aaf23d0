"""The index that a local tool searches: the folder it was given, or the embedded world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.index.index_store import DamagedIndex
from lensgraph.tools.results import Hit
from lensgraph.tools.runtime.home import home


class OpenIndex:
    """An index, opened at its first use. The embedded world is built where it does not exist yet, and built anew where its
    file is damaged: all of it comes from the installed package."""

    def __init__(self, index: Path | None, **options: Any) -> None:
        """`index` None: the embedded world; `options` are those of `LocalEngine.open`."""
        self._index, self._options = index, options
        self._engine: LocalEngine | None = None

    def engine(self) -> LocalEngine:
        """The open engine.

        Raises:
            ToolFailure: there is no index, it is damaged, or the embedded world cannot be built.
        """
        if self._engine is None:
            if self._index is not None:
                self._engine = LocalEngine.open(self._index.expanduser(), **self._options)
            else:
                self._engine = self._world(None)
        return self._engine

    def search(self, ask: Callable[[LocalEngine], list[Hit]]) -> list[Hit]:
        """The hits that `ask` finds in the engine."""
        engine = self.engine()
        try:
            return ask(engine)
        except DamagedIndex as damaged:
            if self._index is not None:
                raise
            self._engine = self._world(damaged)
            return ask(self._engine)

    def _world(self, damaged: DamagedIndex | None) -> LocalEngine:
        from lensgraph.tools.local.world import world_index  # only the embedded world needs its builder

        if damaged is None:
            try:
                return LocalEngine.open(world_index.ensure(home()), **self._options)
            except DamagedIndex:
                pass
        return LocalEngine.open(world_index.rebuild(home()), **self._options)
