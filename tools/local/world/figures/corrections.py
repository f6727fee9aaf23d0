"""The lay wordings that mislead the search: found by asking the real engine, and stored with the data.

Invariant: an (entity, wording) pair is listed in `data/corrections.json` exactly when the first two snippets for the lay
query do not hold the answer and those for the formal query do. The family `correction` is drawn from these pairs only,
so its first search really fails and a second, better one really helps.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from rich.progress import track

from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.world import world_index
from lensgraph.tools.local.world.entities import DATA
from lensgraph.tools.local.world.facts.gather import facts
from lensgraph.tools.local.world.facts.relations import Fact
from lensgraph.tools.local.world.questions import eligibility, phrasings, wording
from lensgraph.tools.results import Hit

READ = 2
"""First hits that count: a lay query misses if none of them holds the answer."""
FILE = DATA / "corrections.json"
"""Lay wording -> ids of the entities that it misleads about, joined by spaces."""


class _Engine(Protocol):
    def search_text(self, query: str, k: int) -> list[Hit]: ...


def holds(hits: Iterable[Hit], fact: Fact) -> bool:
    """Whether a snippet lets a reader answer: the gold, in the page's own spelling, from the right page or any other."""
    whole = re.compile(rf"(?<![\w.,]){re.escape(fact.gold)}(?![\w%]|[.,]\d)")
    return any(whole.search(hit.snippet) for hit in hits)


def misleads(engine: _Engine, fact: Fact, lay: phrasings.Phrasing) -> bool:
    """Whether the lay words miss what the formal ones find."""
    if holds(engine.search_text(wording.lay_query(fact, lay), READ), fact):
        return False
    return holds(engine.search_text(wording.formal_query(fact), READ), fact)


def verify() -> dict[str, tuple[int, int]]:
    """Ask about every fact with every lay wording and write the file. Returns wording -> (misses, asked)."""
    engine = LocalEngine.open(world_index.ensure())
    found: dict[str, list[str]] = defaultdict(list)
    asked: dict[str, int] = defaultdict(int)
    for fact in track(facts(), "Asking with lay words"):
        wordings = phrasings.wordings()[fact.relation].lay
        for lay in wordings:
            asked[lay.id] += 1
            if misleads(engine, fact, lay):
                found[lay.id].append(fact.entity_id)
    rows = {key: " ".join(found[key]) for key in sorted(found)}
    FILE.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    eligibility.verified.cache_clear()
    return {key: (len(found[key]), asked[key]) for key in asked}
