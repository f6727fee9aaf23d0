"""The embedder that an index's vectors come from: recorded in the index, and compared before the first search.

Invariant: an index is searched only by the embedder that it was built with, as its dimension and fingerprint tell.
"""

from __future__ import annotations

from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.index.index_store import IndexStore, NoIndex


def record(store: IndexStore, name: str, dimension: int, fingerprint: str) -> None:
    """Write into the index which embedder its vectors come from."""
    store.set_meta("embedder", name)
    store.set_meta("embedder_dimension", str(dimension))
    store.set_meta("embedder_fingerprint", fingerprint)


def require_same(store: IndexStore, embedder: ImageEmbedder) -> None:
    """Refuse to compare vectors of different embedders; an index without vectors takes any.

    Raises:
        NoIndex: the index was built with an embedder of another dimension or fingerprint.
    """
    for key, mine in (("dimension", str(embedder.dimension)), ("fingerprint", embedder.fingerprint)):
        theirs = store.meta(f"embedder_{key}")
        if theirs is not None and theirs != mine:
            raise NoIndex(
                f"The index at {str(store.folder)!r} was built with embedder {store.meta('embedder')!r} of {key} {theirs}, "
                f"but the one loaded has {key} {mine}; index the folder again, or load the former embedder."
            )
