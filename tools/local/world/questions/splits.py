"""Questions about the world, made from scenes, facts and wordings.

Invariant: a task is a function of (split, family, seed) and of the shipped data, so everybody gets the same ones. An
entity is asked about in its own split only; `known` is the exception and the point of it: its entities are training
entities, and the test asks about them with drawings and wordings that training never showed. The family is a label
for analysis: neither the policy nor the reward reads it.

Families: `visible` is answered from the pixels; `known` from memory; `image` needs an image search; `image_text` an image
and then a text search; `crop_text` a crop first; `correction` begins with words that do not find the page.
"""

from __future__ import annotations

from functools import lru_cache

from lensgraph.tools.local.world.entities import Split
from lensgraph.tools.local.world.questions.question_maker import QuestionMaker
from lensgraph.tools.local.world.questions.world_task import FAMILIES, Family, WorldTask

_BALANCED: dict[Family, float] = {
    "visible": 0.28, "known": 0.22, "image": 0.14, "image_text": 0.16, "crop_text": 0.10, "correction": 0.10,
}  # fmt: skip
SHARES: dict[Split, dict[Family, float]] = {
    "train": {
        "visible": 0.15, "known": 0.12, "image": 0.20, "image_text": 0.23, "crop_text": 0.15, "correction": 0.15,
    },
    "validation": _BALANCED,
    "test": _BALANCED,
}  # fmt: skip
"""Share of each family in a split. Training draws more of what takes longer to learn. What is measured is search-balanced:
half of the questions need no search and half do (50:50, as DeepMMSearchVQA, arXiv 2510.12801, section 2), so that
searching too much costs as much as searching too little."""

SIZES: dict[Split, int] = {"train": 16000, "validation": 400, "test": 1200}
"""Tasks in each split."""


def load_split(split: str, family: str | None = None, limit: int | None = None, seed: int = 0) -> list[WorldTask]:
    """Tasks of a split; every prefix of the list keeps the families' shares."""
    if split not in SIZES:
        raise ValueError(f"no split {split!r} in the world; there are {', '.join(SIZES)}")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"no family {family!r} in the world; there are {', '.join(FAMILIES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all tasks")
    wanted = [task for task in _split(split, seed) if family is None or task.family == family]  # type: ignore[arg-type]
    return wanted[:limit]


@lru_cache(maxsize=4)
def _split(split: Split, seed: int) -> tuple[WorldTask, ...]:
    rows: list[tuple[float, WorldTask]] = []
    for family in FAMILIES:
        count = round(SHARES[split][family] * SIZES[split])
        made = QuestionMaker(split, family, seed).make(count)
        rows += [((k + 0.5) / len(made), task) for k, task in enumerate(made)]
    # Evenly interleaved: the first 100 tasks have the same mix as all of them.
    return tuple(task for _, task in sorted(rows, key=lambda row: (row[0], row[1].id)))
