"""Text search over a local index: your own folder, or the embedded world."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from lensgraph.tools.base import TextSearch
from lensgraph.tools.local.index.engine import SNIPPET_CHARS
from lensgraph.tools.local.open import OpenIndex
from lensgraph.tools.results import Hit, SearchResult


class LocalTextSearch(TextSearch):
    """Words to pages of a local index. Needs no key and no network."""

    repeatable: ClassVar[bool] = True
    on_this_machine: ClassVar[bool] = True

    description: str = "Search pages by words. Name the subject in full: 'Kenya national anthem'."
    index: Path | None = None
    """Folder written by `lensgraph index`. None: the embedded world, built on first use."""
    snippet_chars: int = Field(default=SNIPPET_CHARS, ge=20)
    """Longest snippet, in characters. 200 holds one fact; more costs the policy tokens at every turn."""

    _opened: OpenIndex | None = PrivateAttr(default=None)

    async def asearch(self, query: str) -> SearchResult:
        """Search in a worker thread."""
        hits = await asyncio.to_thread(self._search, query)
        return SearchResult(kind="text", query=query, hits=hits)

    def prepare(self) -> None:
        """Open the index; the embedded world is built first where it does not exist yet."""
        self._open().engine()

    def _open(self) -> OpenIndex:
        if self._opened is None:
            self._opened = OpenIndex(self.index, snippet_chars=self.snippet_chars)
        return self._opened

    def _search(self, query: str) -> list[Hit]:
        return self._open().search(lambda engine: engine.search_text(query, self.k))
