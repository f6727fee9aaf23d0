"""SQLite against LanceDB as the database of a local index, on the world's own pages: the reason why the index is SQLite.

    pip install lancedb && python tests/checks databases

Compared are the time to import, which every `ask` pays, and whether the top 3 of a plain full-text query ("Kenya national
anthem") hold a page of the right country or thing. Both databases get the same text and the same weight on titles, and
neither is re-ranked; nothing else of LanceDB is tuned.
"""

from __future__ import annotations

import importlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from lensgraph.tools.local.index.index_store import TITLE_WEIGHT, IndexStore
from lensgraph.tools.local.world import pages, world_index
from lensgraph.tools.local.world.facts.gather import facts
from lensgraph.tools.local.world.facts.relations import Fact
from lensgraph.tools.local.world.questions import wording

TOP = 3
"""A page counts as found within this many hits."""
RUNS = 5
"""Times that each import is timed; the median counts."""
Search = Callable[[str], list[str]]
"""A query to the ids of the best pages."""


def report(sample: int = 500) -> str:
    """The comparison as a Markdown table.

    Raises:
        ModuleNotFoundError: lancedb is not installed.
    """
    lancedb = importlib.import_module("lancedb")
    asked = random.Random(0).sample(list(facts()), sample)
    owner = {page.id: page.entity_id for page in pages.pages()}
    lines = [
        f"| store | import, s (median of {RUNS}) | right entity in the top {TOP}, of {sample} queries | ms a query |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        searches: dict[str, tuple[str, Search]] = {
            "SQLite FTS5": ("sqlite3", _sqlite()),
            f"LanceDB {lancedb.__version__}": ("lancedb", _lancedb(lancedb, folder)),
        }
        for name, (module, search) in searches.items():
            started = time.perf_counter()
            hits = sum(_finds(search, fact, owner) for fact in asked)
            milliseconds = 1000 * (time.perf_counter() - started) / sample
            lines.append(f"| {name} | {_import_seconds(module):.2f} | {hits / sample:.3f} | {milliseconds:.1f} |")
    return "\n".join(lines)


def _finds(search: Search, fact: Fact, owner: dict[str, str | None]) -> bool:
    return fact.entity_id in [owner.get(page) for page in search(wording.formal_query(fact))]


def _sqlite() -> Search:
    store = IndexStore.open(world_index.ensure())
    return lambda query: [row.id for row, _ in store.match(re.findall(r"\w+", query), TOP)]


def _lancedb(lancedb: Any, folder: str) -> Search:
    query_module = importlib.import_module("lancedb.query")
    table = lancedb.connect(folder).create_table(
        "pages", [{"id": page.id, "title": page.title, "text": page.text} for page in pages.pages()]
    )
    for column in ("title", "text"):
        table.create_fts_index(column)

    def search(query: str) -> list[str]:
        match = query_module.MultiMatchQuery(query, ["title", "text"], boosts=[TITLE_WEIGHT, 1.0])
        return [row["id"] for row in table.search(match, query_type="fts").limit(TOP).to_list()]

    return search


def _import_seconds(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command: Sequence[str] = [sys.executable, "-c", code]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)
    )
