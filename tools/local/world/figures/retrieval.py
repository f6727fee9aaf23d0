"""Measures how often a picture by one artist finds the same thing drawn by others.

Invariant: every row searches the pictures of *all* entities of both kinds, of every split, as the shipped index does; a
hit is the right entity, whichever artist's picture was found. Queries are the entities of one split, drawn by one
artist who is not in the index, either as the bare drawing or as it stands in a scene (`View`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from lensgraph.tools.local.embedder import shipped as embedder
from lensgraph.tools.local.world import entities, renditions
from lensgraph.tools.local.world.entities import DATA, Kind, Split
from lensgraph.tools.runtime.interval import interval

Embed = Callable[[Sequence[Image.Image]], np.ndarray]
"""Pictures -> unit vectors, one row each."""
VECTORS = DATA / "vectors.npz"
"""Vectors of the indexed pictures and of the test queries, so that first use and tests embed nothing."""
CUT_MARGIN = 8
"""Margin that a region proposal leaves around an item cut out of a scene, in pixels."""

View = Literal["drawing", "scene", "cut"]
"""The bare drawing; somewhere on a coloured canvas up to 1.8 times as wide; cut from one with `CUT_MARGIN` around it."""


@dataclass(frozen=True)
class Pair:
    """One set of queries to the index: a kind of entity, an artist and a view."""

    kind: Kind
    """Kind of entity that the queries show."""
    query: str
    """The artist of the queries."""
    view: View = "drawing"
    """View of the query."""


PAIRS = (
    Pair("flag", "flagpack"),
    Pair("flag", "flagpack", "scene"),
    Pair("flag", "flagpack", "cut"),
    Pair("flag", "circle_flags"),
    Pair("flag", "emojione"),
    Pair("thing", "fluent_3d"),
    Pair("thing", "fluent_3d", "scene"),
    Pair("thing", "fluent_3d", "cut"),
    Pair("thing", "emojione"),
)
"""The rows of the published table."""
PROGRESS = tuple(Pair(kind, "emojione", view) for kind in ("flag", "thing") for view in ("drawing", "scene", "cut"))
"""The pairs that training may look at."""


@dataclass(frozen=True)
class RetrievalRow:
    """One line of the retrieval table."""

    kind: Kind
    query: str
    """Artist of the queries."""
    view: View
    """View of the queries."""
    index: tuple[str, ...]
    """Artists in the index for this kind."""
    split: Split | None
    """Entities asked about; None: all of the kind."""
    n: int
    """Queries."""
    recall_at_1: float
    recall_at_5: float
    """Share of queries whose entity is among the first five *entities* found."""
    low: float
    high: float
    """95 % bootstrap interval of `recall_at_1` over queries."""


@dataclass(frozen=True)
class Key:
    """One picture that is embedded."""

    entity: str
    rendition: str
    view: View = "drawing"

    def __str__(self) -> str:
        return f"{self.entity} {self.rendition} {self.view}"

    def picture(self) -> Image.Image:
        """The picture that the embedder sees; the same pixels every time."""
        if self.view == "drawing":
            return renditions.load_rendition(self.entity, self.rendition)
        chance = random.Random(str(self))
        drawing = renditions.load_rendition(self.entity, self.rendition)
        shade = _unlike_edges(drawing, chance)
        side = max(drawing.size)
        if self.view == "cut":
            size, place = (drawing.width + 2 * CUT_MARGIN, drawing.height + 2 * CUT_MARGIN), (CUT_MARGIN, CUT_MARGIN)
        else:
            size = (round(side * chance.uniform(1.2, 1.8)), round(side * chance.uniform(1.2, 1.8)))
            place = (chance.randint(0, size[0] - drawing.width), chance.randint(0, size[1] - drawing.height))
        scene = Image.new("RGB", size, shade)
        scene.paste(drawing, place, drawing)
        return scene


def _unlike_edges(drawing: Image.Image, chance: random.Random) -> tuple[int, int, int]:
    """A background colour that the drawing's outline does not blend into."""
    seen = np.asarray(drawing.resize((24, 24))).astype(int)
    colours = seen[seen[..., 3] > 128][:, :3]
    shades = [tuple(chance.randint(0, 255) for _ in range(3)) for _ in range(12)]
    best = max(shades, key=lambda shade: np.abs(colours - shade).sum(1).min())
    return best[0], best[1], best[2]


@cache
def shipped() -> dict[str, np.ndarray]:
    """`str(Key)` -> unit vector (float32) of every indexed picture and every query of `PAIRS`.

    Raises RuntimeError when the vectors were made by other weights than those that ship.
    """
    with np.load(VECTORS) as arrays:
        keys, vectors, made_by = arrays["keys"], arrays["vectors"].astype(np.float32), str(arrays["fingerprint"])
    if made_by != embedder.fingerprint():
        raise RuntimeError(
            f"{VECTORS.name} was made by embedder {made_by}, the weights are {embedder.fingerprint()}: "
            "run python -m lensgraph.tools.local.world.figures.retrieval --write"
        )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip((str(k) for k in keys), vectors, strict=True))


def vector(entity_id: str, rendition: str) -> np.ndarray:
    """The shipped vector of an indexed picture, float32, unit length."""
    return shipped()[str(Key(entity_id, rendition))]


def indexed_keys() -> list[Key]:
    """Every picture the index holds."""
    return [
        Key(e.id, r) for e in entities.load_entities() for r in renditions.INDEXED[e.kind] if renditions.has(e.id, r)
    ]


def table() -> list[RetrievalRow]:
    """Every pair of `PAIRS`, asked about test entities, from the vectors that ship."""
    return measure(PAIRS, None, split="test")


def measure(pairs: Sequence[Pair], embed: Embed | None, *, split: Split | None) -> list[RetrievalRow]:
    """Rows for these pairs. `embed` None: use the shipped vectors."""
    index = indexed_keys()
    index_vectors = _vectors(index, embed)
    owners = np.array([key.entity for key in index])
    rows = []
    for pair in pairs:
        asked = queries(pair, split)
        ranks = _ranks(_vectors(asked, embed) @ index_vectors.T, owners, [key.entity for key in asked])
        low, high = interval((ranks == 0).tolist())
        rows.append(
            RetrievalRow(
                kind=pair.kind,
                query=pair.query,
                view=pair.view,
                index=renditions.INDEXED[pair.kind],
                split=split,
                n=len(asked),
                recall_at_1=float(np.mean(ranks < 1)),
                recall_at_5=float(np.mean(ranks < 5)),
                low=low,
                high=high,
            )
        )
    return rows


def queries(pair: Pair, split: Split | None) -> list[Key]:
    """The pictures a pair asks with."""
    asked = entities.select(kind=pair.kind, split=split)
    return [Key(e.id, pair.query, pair.view) for e in asked if renditions.has(e.id, pair.query)]


def _vectors(keys: list[Key], embed: Embed | None) -> np.ndarray:
    if embed is not None:
        return embed([key.picture() for key in keys])
    known = shipped()
    return np.stack([known[str(key)] for key in keys])


def _ranks(likeness: np.ndarray, owners: np.ndarray, wanted: list[str]) -> np.ndarray:
    """For each query, how many other entities come before the right one."""
    names, where = np.unique(owners, return_inverse=True)
    best = np.full((len(likeness), len(names)), -2.0)
    for column, entity in enumerate(where):
        np.maximum(best[:, entity], likeness[:, column], out=best[:, entity])
    right = best[np.arange(len(wanted)), np.searchsorted(names, wanted)]
    return (best > right[:, None]).sum(1)


def write_vectors() -> None:
    """Embed every indexed picture and every query of the table with the weights that ship."""
    keys = [*indexed_keys(), *(key for pair in PAIRS for key in queries(pair, "test"))]
    np.savez_compressed(
        VECTORS,
        keys=np.array([str(key) for key in keys]),
        vectors=embedder.embed([key.picture() for key in keys]).astype(np.float16),
        fingerprint=np.array(embedder.fingerprint()),
    )
    shipped.cache_clear()


def render(rows: Sequence[RetrievalRow]) -> str:
    """The table as Markdown."""
    lines = ["| queries | seen as | index | entities | n | R@1 (95 %) | R@5 |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.kind}s, {r.query} | {r.view} | {' + '.join(r.index)} | {r.split or 'all'} | {r.n} "
        f"| {r.recall_at_1:.3f} ({r.low:.3f}-{r.high:.3f}) | {r.recall_at_5:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    if "--write" in sys.argv:
        write_vectors()
    print(render(table()))  # noqa: T201
