"""Image search over a local index: your own folder, or the embedded world."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from PIL import Image
from pydantic import PrivateAttr

from lensgraph.tools.base import ImageSearch
from lensgraph.tools.local.open import OpenIndex
from lensgraph.tools.results import Hit, SearchResult


class LocalImageSearch(ImageSearch):
    """A picture to the pages of a local index that show the same thing. Needs no key and no network."""

    repeatable: ClassVar[bool] = True
    on_this_machine: ClassVar[bool] = True

    index: Path | None = None
    """Folder written by `lensgraph index`. None: the embedded world, built on first use."""
    embedder: str | None = None
    """Embedder of the queries, when it must differ in name from the index's (a moved model folder). None: the
    embedder that the index was built with."""

    _opened: OpenIndex | None = PrivateAttr(default=None)

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Embed and search in a worker thread."""
        hits = await asyncio.to_thread(self._search, image)
        return SearchResult(kind="image", query=f"image {image.width}x{image.height}", hits=hits)

    def prepare(self) -> None:
        """Open the index and load an embedder of the user's own; the embedded world is built first where it does not exist
        yet."""
        self._open().engine().check_embedder()

    def _open(self) -> OpenIndex:
        if self._opened is None:
            self._opened = OpenIndex(self.index, embedder=self.embedder)
        return self._opened

    def _search(self, image: Image.Image) -> list[Hit]:
        return self._open().search(lambda engine: engine.search_image(image, self.k))
