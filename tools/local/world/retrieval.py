"""How well a picture by one artist finds the same thing drawn by others.

Invariant: every row searches the pictures of *all* entities of both kinds, of every split, as the shipped index does; a
hit is the right entity, whichever artist's picture was found. Queries are the entities of one split, drawn by one
artist who is not in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from tools.local.embedder import network
from tools.local.world import entities, pictures
from tools.local.world.entities import DATA, Kind, Split

Embed = Callable[[Sequence[Image.Image]], np.ndarray]
VECTORS = DATA / "vectors.npz"
"""Vectors of the indexed pictures and of the test queries, so that first use and tests embed nothing."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Pair:
    """One question to the index: who asks."""

    kind: Kind
    """What the queries show."""
    query: str
    """The artist of the queries."""


PAIRS = (
    Pair("flag", "flagpack"),
    Pair("flag", "circle_flags"),
    Pair("flag", "emojione"),
    Pair("thing", "fluent_3d"),
    Pair("thing", "emojione"),
)
PROGRESS = (Pair("flag", "emojione"), Pair("thing", "emojione"))
"""What training may look at."""


@dataclass(frozen=True)
class Row:
    """One line of the retrieval table."""

    kind: Kind
    query: str
    """Artist of the queries."""
    index: tuple[str, ...]
    """Artists in the index for this kind."""
    split: Split | None
    """Entities asked about; None: all."""
    n: int
    """Queries."""
    recall_at_1: float
    recall_at_5: float
    """Share of queries whose entity is among the first five *entities* found."""
    low: float
    high: float
    """95 % bootstrap interval of `recall_at_1` over queries."""


@cache
def shipped() -> dict[str, np.ndarray]:
    """`"entity rendition"` -> unit vector (float32) of every indexed picture and test query.

    Raises RuntimeError when the vectors were made by other weights than those that ship.
    """
    with np.load(VECTORS) as arrays:
        keys, vectors, made_by = arrays["keys"], arrays["vectors"].astype(np.float32), str(arrays["fingerprint"])
    if made_by != network.fingerprint():
        raise RuntimeError(
            f"{VECTORS.name} was made by embedder {made_by}, the weights are {network.fingerprint()}: "
            "run python -m tools.local.world.retrieval --write"
        )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip((str(k) for k in keys), vectors, strict=True))


def indexed_keys() -> list[tuple[str, str]]:
    """(entity id, rendition) of every picture the index holds."""
    return [(e.id, r) for e in entities.load() for r in pictures.INDEXED[e.kind] if pictures.has(e.id, r)]


def table() -> list[Row]:
    """Every pair of `PAIRS`, on test entities and on all, from the vectors that ship."""
    return [row for split in ("test", None) for row in measure(PAIRS, None, split=split)]  # type: ignore[arg-type]


def measure(pairs: Sequence[Pair], embed: Embed | None, *, split: Split | None) -> list[Row]:
    """Rows for these pairs. `embed` None: use the shipped vectors."""
    index = indexed_keys()
    index_vectors = _vectors(index, embed)
    owners = np.array([entity for entity, _ in index])
    rows = []
    for pair in pairs:
        asked = [(e.id, pair.query) for e in entities.select(kind=pair.kind, split=split) if pictures.has(e.id, pair.query)]
        ranks = _ranks(_vectors(asked, embed) @ index_vectors.T, owners, [entity for entity, _ in asked])
        low, high = _interval(ranks == 0)
        rows.append(
            Row(
                kind=pair.kind,
                query=pair.query,
                index=pictures.INDEXED[pair.kind],
                split=split,
                n=len(asked),
                recall_at_1=float(np.mean(ranks < 1)),
                recall_at_5=float(np.mean(ranks < 5)),
                low=low,
                high=high,
            )
        )
    return rows


def _vectors(keys: list[tuple[str, str]], embed: Embed | None) -> np.ndarray:
    if embed is not None:
        return embed([pictures.load(*key) for key in keys])
    known = shipped()
    return np.stack([known[f"{entity} {rendition}"] for entity, rendition in keys])


def _ranks(likeness: np.ndarray, owners: np.ndarray, wanted: list[str]) -> np.ndarray:
    """For each query, how many other entities come before the right one."""
    names, where = np.unique(owners, return_inverse=True)
    best = np.full((len(likeness), len(names)), -2.0)
    for column, entity in enumerate(where):
        np.maximum(best[:, entity], likeness[:, column], out=best[:, entity])
    right = best[np.arange(len(wanted)), np.searchsorted(names, wanted)]
    return (best > right[:, None]).sum(1)


def _interval(hits: np.ndarray) -> tuple[float, float]:
    random = np.random.default_rng(0)
    means = random.choice(hits.astype(float), (RESAMPLES, len(hits))).mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def write_vectors() -> None:
    """Embed every indexed picture and every query of the table with the weights that ship."""
    queries = [(e.id, p.query) for p in PAIRS for e in entities.select(kind=p.kind) if pictures.has(e.id, p.query)]
    keys = [*indexed_keys(), *queries]
    vectors = network.embed([pictures.load(*key) for key in keys]).astype(np.float16)
    np.savez_compressed(
        VECTORS,
        keys=np.array([f"{entity} {rendition}" for entity, rendition in keys]),
        vectors=vectors,
        fingerprint=np.array(network.fingerprint()),
    )
    shipped.cache_clear()


if __name__ == "__main__":
    import sys

    if "--write" in sys.argv:
        write_vectors()
    for row in table():
        print(row)  # noqa: T201
