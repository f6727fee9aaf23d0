"""A text search that also reads the pages it finds, and puts what answers the query into the snippets.

Wraps any text search. The first hits are read, at the same time; for a page that cannot be read the next hit is read
instead, until `pages` are read or there are no more (as MMSearch-R1 does). Hits whose pages were read come first; the others
follow with the snippet of the search service, so reading never loses a result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Self

from pydantic import Field, InstanceOf, PrivateAttr, model_validator

from lensgraph.tools.base import TextSearch
from lensgraph.tools.cache import Cache
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.pages.extract import passage
from lensgraph.tools.pages.summarise import Summariser
from lensgraph.tools.results import Hit, SearchResult
from lensgraph.tools.safety.signals import steers

logger = logging.getLogger(__name__)
MOST_INTERRUPTED = 256
"""Interrupted searches that are remembered; nobody may ever resume them."""


@dataclass(frozen=True)
class _Read:
    """A hit whose page was read."""

    hit: Hit
    price: float
    cached: bool


class ReadingTextSearch(TextSearch):
    """Words to pages, with the passage or summary of each page as its snippet."""

    search_tool: InstanceOf[TextSearch]
    """The search that finds the pages."""
    reader: InstanceOf[PageReader]
    """The reader of these pages."""
    summariser: InstanceOf[Summariser] | None = None
    """The model that sums them up. None: the snippet is the passage of the page that fits the query best."""
    pages: int = Field(default=3, ge=1, le=20)
    """Number of pages to read."""
    snippet_chars: int = Field(default=600, ge=20)
    """Longest passage, in characters."""
    seconds: float = Field(default=30.0, gt=0)
    """Seconds for reading and summaries together; a hit that is not done by then keeps the search service's snippet."""

    _summaries: Cache | None = PrivateAttr(default=None)
    _interrupted: dict[str, SearchResult] = PrivateAttr(default_factory=dict)
    """Searches whose reading a person was asked about: LangGraph runs them again, and they are paid for."""

    @model_validator(mode="after")
    def _room_for_all(self) -> ReadingTextSearch:
        self.k = self.search_tool.k
        self.timeout = self.search_tool.timeout + self.seconds + 1
        return self

    @property
    def highest_price(self) -> float:
        """The price of the search and of `pages` pages; what a summariser's model costs is known only afterwards."""
        return self.search_tool.highest_price + self.pages * self.reader.highest_price

    def prepare(self) -> None:
        """Prepare the search and the reader."""
        self.search_tool.prepare()
        self.reader.prepare()

    def use_cache(self, cache: Cache | None) -> Self:
        """The search, the pages and the summaries are kept one by one: a summary also depends on the question, which is
        no part of a query, so what comes of all three is not kept as one."""
        if not self.search_tool.on_this_machine:
            self.search_tool.use_cache(cache)
        self.reader.use_cache(cache)
        self._summaries = cache
        return self

    async def asearch(self, query: str) -> SearchResult:
        """Search, read, and put the passages in."""
        found = self._interrupted.pop(query, None) or await self.search_tool.search(query)
        if found.error is not None:
            return found
        try:
            read = await self._read(found.hits, query)
        except Exception as error:
            if steers(error) and len(self._interrupted) < MOST_INTERRUPTED:
                self._interrupted[query] = found
            raise
        hits = [read[rank].hit for rank in sorted(read)] + [h for rank, h in enumerate(found.hits) if rank not in read]
        price = found.price + sum(part.price for part in read.values())
        # Only what nobody was asked for anew is a kept answer.
        cached = found.cached and all(part.cached for part in read.values())
        return found.model_copy(update={"hits": hits, "price": price, "cached": cached})

    async def _read(self, hits: list[Hit], query: str) -> dict[int, _Read]:
        """Pages that were read, by the rank of their hit; those that failed are missing."""
        until = time.monotonic() + self.seconds
        waiting = [rank for rank, hit in enumerate(hits) if hit.url.startswith(("http://", "https://"))]
        read: dict[int, _Read] = {}
        while waiting and len(read) < self.pages and time.monotonic() < until:
            wave, waiting = waiting[: self.pages - len(read)], waiting[self.pages - len(read) :]
            tasks = {rank: asyncio.create_task(self._one(hits[rank], query, until)) for rank in wave}
            try:
                await asyncio.wait(tasks.values(), timeout=max(0.0, until - time.monotonic()))
            finally:
                for task in tasks.values():
                    task.cancel()
            ended = {rank: task for rank, task in tasks.items() if task.done() and not task.cancelled()}
            if raised := [error for task in ended.values() if (error := task.exception()) is not None]:
                raise raised[0]
            read |= {rank: outcome for rank, task in ended.items() if (outcome := task.result()) is not None}
        return read

    async def _one(self, hit: Hit, query: str, until: float) -> _Read | None:
        page = await self.reader.read(hit.url)
        if page.error is not None:
            return None
        price, cached = page.price, page.cached
        snippet = await asyncio.to_thread(passage, page.text, query, page.title or hit.title, self.snippet_chars)
        if self.summariser is not None:
            try:
                # A little before the others give up waiting, so that the passage is there in its place.
                left = max(0.0, until - time.monotonic() - 0.2)
                async with asyncio.timeout(left):
                    summary = await self.summariser.summarise(page, query, cache=self._summaries, seconds=left)
                snippet, price, cached = summary.text, price + summary.price, cached and summary.cached
            except Exception as error:  # the boundary to a foreign model: the passage serves
                if steers(error):
                    raise
                logger.warning(
                    "a page was not summarised (%s); its best passage is shown instead", type(error).__name__
                )
        return _Read(hit.model_copy(update={"snippet": snippet, "title": hit.title or page.title}), price, cached)
