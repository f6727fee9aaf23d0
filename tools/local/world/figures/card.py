"""The world's card: what it holds, how it is split, under which licences, and how well its index is searched.

Every figure is counted or measured when the card is printed, on the data that ship; nothing here is copied from a report.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.world import entities, pages, renditions, world_index
from lensgraph.tools.local.world.facts import gather
from lensgraph.tools.local.world.figures import corrections, location
from lensgraph.tools.local.world.questions import phrasings, wording, world_task
from lensgraph.tools.local.world.questions import splits as questions
from lensgraph.tools.runtime.interval import interval

TOP = 3
"""The gold page counts as found within this many hits."""
SAMPLE = 2000
"""Gold queries asked for the text table by default; all of them take about four times as long."""


def markdown(sample: int | None = SAMPLE) -> str:
    """The whole card. `sample` is how many gold queries are asked; None: all."""
    from lensgraph.tools.local.world.figures import retrieval  # brings numpy and the embedder

    parts = [
        "# The embedded world",
        "## Entities and pictures",
        entity_table(),
        "## Pages",
        page_table(),
        "## Tasks",
        task_table(),
        "Entities of one split appear in no task of another, except that `known` asks about training entities "
        "everywhere: in validation and test with drawings and wordings that training never shows.",
        "## What a guess would get",
        guess_table(),
        "## Image search",
        retrieval.render(retrieval.table()),
        "## Text search",
        text_table(sample),
        "## Location",
        location_table(),
        "## Licences",
        licences(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def entity_table() -> str:
    """Entities by kind and split, and which artist drew how many."""
    rows: list[list[object]] = []
    for kind in ("flag", "thing"):
        chosen = [e for e in entities.load_entities() if e.kind == kind]
        splits = Counter(e.split for e in chosen)
        known = sum(e.known for e in chosen)
        rows.append([kind, len(chosen), *(splits[split] for split in entities.SPLITS), known])
    drawn: list[list[object]] = []
    for name in renditions.RENDITIONS:
        flags = sum(key.startswith("flag:") for key in renditions.encoded(name))
        drawn.append([name, flags, len(renditions.encoded(name)) - flags, _role(name)])
    return (
        _table(("kind", "entities", *entities.SPLITS, "of train: known"), rows)
        + "\n\n"
        + _table(("artist", "flags", "things", "role"), drawn)
    )


def _role(name: str) -> str:
    roles = [
        label
        for label, table in (
            ("indexed", renditions.INDEXED),
            ("asked with in train", renditions.TRAIN_QUERIES),
            ("asked with in validation and test", renditions.TEST_QUERIES),
            ("retrieval table only", renditions.HARD_QUERIES),
        )
        if any(name in row for row in table.values())
    ]
    return ", ".join(roles)


def page_table() -> str:
    """Pages by source, and how many belong to an entity."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for page in pages.pages():
        row = counts[page.source]
        row[0] += 1
        row[1] += page.entity_id is not None
        row[2] += len(page.text)
    rows = [[source, n, own, n - own, round(chars / n)] for source, (n, own, chars) in counts.items()]
    total = len(gather.facts())
    return (
        _table(("source", "pages", "about an entity", "distractors", "mean characters"), rows)
        + f"\n\n{total:,} facts in {len({f.relation for f in gather.facts()})} relations, each one short answer that "
        "stands on its page letter for letter."
    )


def task_table() -> str:
    """Tasks by split and family; distinct facts, entities and wordings."""
    rows: list[list[object]] = []
    for split in questions.SIZES:
        loaded = questions.load_split(split)
        families = Counter(task.family for task in loaded)
        rows.append(
            [
                split,
                len(loaded),
                *(families[family] for family in world_task.FAMILIES),
                len({task.entity_id for task in loaded if task.entity_id}),
                len({(task.entity_id, task.relation) for task in loaded}),
                len({task.phrasing for task in loaded}),
            ]
        )
    wordings = phrasings.wordings().values()
    formal = [p for w in wordings for p in w.formal]
    lay = [p for w in wordings for p in w.lay]
    return (
        _table(("split", "tasks", *world_task.FAMILIES, "entities", "entity-relation pairs", "wordings"), rows)
        + f"\n\n{len(phrasings.wordings())} kinds of question in {len(formal)} wordings ({sum(p.reserved for p in formal)} "
        f"of them for test only) and {len(lay)} lay wordings ({sum(p.reserved for p in lay)} for test only)."
    )


def guess_table() -> str:
    """Share of tasks that the relation's most common training answer would get right, by family of the test split."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for task in questions.load_split("train"):
        answers[task.relation][task.golds[0]] += 1
    best = {relation: counts.most_common(1)[0][0] for relation, counts in answers.items()}
    hits: dict[str, list[bool]] = defaultdict(list)
    for task in questions.load_split("test"):
        hits[task.family].append(best.get(task.relation, "") in task.golds)
    rows = [[family, len(found), with_interval(found)] for family, found in hits.items()]
    searching = [hit for family, found in hits.items() if family not in ("visible", "known") for hit in found]
    rows.append(["all that need a search", len(searching), with_interval(searching)])
    return _table(("family (test)", "n", "right by guessing (95 %)"), rows)


@dataclass(frozen=True)
class TextScore:
    """Result of text search for one gold query."""

    relation: str
    in_top: bool
    """The gold page is among the first `TOP`."""
    readable: bool
    """One of the first two snippets holds the answer. (The pocket policy is shown one.)"""


def text_scores(sample: int | None = SAMPLE) -> list[TextScore]:
    """Ask the gold query of every fact, or of a random sample."""
    engine = LocalEngine.open(world_index.ensure())
    urls = {page.id: page.url for page in pages.pages()}
    asked = list(gather.facts())
    if sample is not None and sample < len(asked):
        asked = random.Random(0).sample(asked, sample)
    scores = []
    for fact in asked:
        hits = engine.search_text(wording.formal_query(fact), TOP)
        found = urls[fact.page_id] in [hit.url for hit in hits]
        scores.append(TextScore(fact.relation, found, corrections.holds(hits[: corrections.READ], fact)))
    return scores


def text_table(sample: int | None = SAMPLE) -> str:
    """Share of gold queries (entity and field name) that find the gold page, by relation, worst first."""
    scores = text_scores(sample)
    by_relation: dict[str, list[TextScore]] = defaultdict(list)
    for score in scores:
        by_relation[score.relation].append(score)
    rows: list[list[object]] = [
        [relation, len(row), with_interval([s.in_top for s in row]), with_interval([s.readable for s in row])]
        for relation, row in by_relation.items()
    ]
    rows.sort(key=lambda row: (str(row[2]), str(row[3])))
    rows.insert(
        0, ["all", len(scores), with_interval([s.in_top for s in scores]), with_interval([s.readable for s in scores])]
    )
    head = ("relation", "n", f"gold page in the top {TOP} (95 %)", "answer in the first two snippets (95 %)")
    return _table(head, rows)


def location_table(limit: int | None = None) -> str:
    """Share of expressions whose item the embedded locator finds, by the number of items in the scene."""
    by_items: dict[str, list[location.Located]] = defaultdict(list)
    for one in location.measure("test", limit):
        by_items["all"].append(one)
        by_items[str(one.items)].append(one)
    rows = [
        [
            items,
            len(found),
            with_interval([one.found for one in found]),
            f"{statistics.median(one.seconds for one in found) * 1000:.0f}",
        ]
        for items, found in sorted(by_items.items(), key=lambda row: (row[0] != "all", row[0]))
    ]
    head = ("items (test)", "expressions", f"item found at IoU {location.OVERLAP} (95 %)", "median ms")
    return _table(head, rows)


def with_interval(hits: Sequence[bool]) -> str:
    """Mean and 95 % bootstrap interval, as text."""
    low, high = interval(hits)
    return f"{sum(hits) / len(hits):.3f} ({low:.3f}-{high:.3f})"


def licences() -> str:
    """Sources and licences of everything; the pictures' part is the attribution file that ships."""
    attribution = (entities.DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    packages = _table(
        ("package", "version", "used for", "licence"),
        [
            [
                pages.FACTBOOK,
                pages.PINNED[pages.FACTBOOK],
                "country pages",
                "text: public domain (US government); package: MIT",
            ],
            [pages.LEADS, pages.PINNED[pages.LEADS], "Wikipedia leads", "text: CC-BY-SA-4.0; its GPL code is not used"],
        ],
    )
    return f"{packages}\n\n{attribution.strip()}"
