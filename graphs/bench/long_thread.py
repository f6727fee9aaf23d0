"""`lensgraph bench --thread N`: one conversation of many questions, each with a new picture, kept in a file of SQLite.

Invariant: what is counted is what the checkpointer has written, not an estimate; every question makes the same searches.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from rich.progress import track

from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.agent.savers import SQLITE, saver
from lensgraph.agent.state import AskInput
from lensgraph.graphs import search_agent
from lensgraph.graphs.bench.overhead import TURNS, photograph
from lensgraph.tools.results import Hit, SearchResult

HITS, LETTERS = 5, 300
"""Results of a search, and letters of the snippet of each, as search engines give them."""
AT = (1, 50, 100, 200, 500, 1000)
"""Questions that the report shows, and the last one."""


@dataclass(frozen=True)
class Asked:
    """One question of the thread."""

    number: int
    """From 1."""
    seconds: float
    """From the question to the answer."""
    written: int
    """Bytes that the checkpointer's file grew by."""
    file: int
    """Bytes of the file after it."""
    pictures: int
    """Bytes of all pictures so far, which lie beside the checkpoints."""


class _Pages(testing.FixedText):
    """As many results as a search engine gives, new ones for every question."""

    asked_for: int = 0

    async def asearch(self, query: str) -> SearchResult:
        """Pages with snippets of a usual length."""
        self.asked_for += 1
        words = f"{query} {self.asked_for} "
        hits = [
            Hit(
                title=f"Page {number} of search {self.asked_for}",
                url=f"https://example.org/{self.asked_for}/{number}",
                snippet=(words * (LETTERS // len(words) + 1))[:LETTERS],
            )
            for number in range(HITS)
        ]
        return SearchResult(kind="text", query=query, hits=hits)


def main(questions: int, *, as_json: bool) -> int:
    """Ask, print, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="lensgraph-thread-") as folder:
        asked = asyncio.run(measure(questions, Path(folder), quiet=as_json))
    shown = [one for one in asked if one.number in AT or one.number == questions]
    if as_json:
        print(json.dumps([asdict(one) for one in shown]))
        return 0
    print("question   seconds   kB written   checkpoints MB   pictures MB")
    for one in shown:
        print(
            f"{one.number:8}   {one.seconds:7.2f}   {one.written / 1e3:10.0f}   {one.file / 1e6:14.1f}   "
            f"{one.pictures / 1e6:11.1f}"
        )
    return 0


async def measure(questions: int, folder: Path, *, quiet: bool) -> list[Asked]:
    """Ask `questions` questions in one thread whose file and pictures lie in `folder`."""
    file, pictures = folder / "threads.db", folder / "pictures"
    context = testing.context(
        TURNS, policy=ScriptedPolicy(TURNS * questions), text_search=_Pages(), store=ImageStore(pictures)
    )
    async with saver(f"{SQLITE}{file}") as checkpoints:
        graph = search_agent.build(checkpoints)
        asked: list[Asked] = []
        for number in track(range(1, questions + 1), "questions", disable=quiet, transient=True):
            given: AskInput = {"question": f"When was it automated? {number}", "images": [photograph()]}
            before, began = await _bytes(checkpoints, file), time.perf_counter()
            await graph.ainvoke(given, {"configurable": {"thread_id": "long"}}, context=context)
            seconds, after = time.perf_counter() - began, await _bytes(checkpoints, file)
            kept = sum(path.stat().st_size for path in pictures.rglob("*") if path.is_file())
            asked.append(Asked(number, seconds, after - before, after, kept))
    return asked


async def _bytes(checkpoints: BaseCheckpointSaver[Any], file: Path) -> int:
    """Bytes of the file, with what its log still holds."""
    connection = checkpoints.conn  # type: ignore[attr-defined]  # the base class has none
    await connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.stat().st_size


__all__ = ["Asked", "main", "measure"]
