"""Picture to vector, behind one interface; which one is a name in the configuration and in the index.

Names: `embedded` (shipped with the package), `transformers:NAME` (any transformers vision model, by hub
name or folder), `package.module:Class` (your own subclass of `ImageEmbedder`).

Invariant: vectors have length one, and an index is only searched by the embedder it was built with: its
name, dimension and fingerprint are stored in the index and compared before the first search."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lensgraph.tools.local.index.store import NoIndex, Store
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.errors import one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

DEFAULT = "embedded"
"""The embedder of a new index."""


class ImageEmbedder(ABC):
    """Turns pictures into vectors of length one."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the same picture would get another vector: weights, preprocessing, pooling."""

    @abstractmethod
    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """One float32 row of length one for each RGB picture."""


class EmbedderError(ToolFailure, ValueError):
    """The embedder cannot be loaded or does not fit the index. The message names the fix."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


def load(name: str = DEFAULT) -> ImageEmbedder:
    """The embedder with this name; loading it, or embedding many pictures, may import torch.

    Raises:
        EmbedderError: there is none of this name, or it cannot be loaded.
    """
    kind, colon, rest = name.partition(":")
    arguments: tuple[str, ...] = ()
    if name == DEFAULT:
        target, attribute = "lensgraph.tools.local.embedder.default", "DefaultEmbedder"
    elif kind == "transformers" and rest:
        target, attribute, arguments = "lensgraph.tools.local.embedder.transformers", "TransformersEmbedder", (rest,)
    elif colon and rest and "." in kind:
        target, attribute = kind, rest
    else:
        raise EmbedderError(
            f"Unknown embedder {name!r}; valid: {DEFAULT!r}, 'transformers:NAME', "
            "or an import path 'package.module:Class'."
        )
    try:
        embedder = getattr(importlib.import_module(target), attribute)(*arguments)
    except EmbedderError:
        raise
    except Exception as error:  # the boundary to foreign code: a module and a class that anybody may have written
        raise EmbedderError(
            f"Embedder {name!r} cannot be loaded: {one_line(error).rstrip('.')}; correct the name, or install what it needs."
        ) from error
    if not isinstance(embedder, ImageEmbedder):
        raise EmbedderError(
            f"Embedder {name!r} is no lensgraph.tools.local.embedder.embedders.ImageEmbedder; subclass it."
        )
    return embedder


def record(store: Store, name: str, embedder: ImageEmbedder) -> None:
    """Write into the index which embedder its vectors come from."""
    store.set_meta("embedder", name)
    store.set_meta("embedder_dimension", str(embedder.dimension))
    store.set_meta("embedder_fingerprint", embedder.fingerprint)


def require_same(store: Store, embedder: ImageEmbedder) -> None:
    """Refuse to compare vectors of different embedders."""
    for key, mine in (("dimension", str(embedder.dimension)), ("fingerprint", embedder.fingerprint)):
        theirs = store.meta(f"embedder_{key}")
        if theirs is not None and theirs != mine:
            raise NoIndex(
                f"The index at {str(store.folder)!r} was built with embedder "
                f"{store.meta('embedder')!r} "
                f"of {key} {theirs}, but the one loaded has {key} {mine}; index the folder again, or load the former embedder."
            )
