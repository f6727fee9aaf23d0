"""Picture to vector, behind one interface; a name in the configuration and in the index chooses the embedder.

Names: `embedded` (ships with the package), `transformers:NAME` (any vision model of transformers, by hub name or folder),
`package.module:Class` (your own subclass of `ImageEmbedder`).
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.one_line import one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SHIPPED = "embedded"
"""Name of the embedder that ships; a new index uses it."""


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


def load_embedder(name: str = SHIPPED) -> ImageEmbedder:
    """Load the embedder with this name. The shipped one needs numpy alone, one of transformers imports torch.

    Raises:
        EmbedderError: no embedder has this name, or it cannot be loaded.
    """
    kind, colon, rest = name.partition(":")
    arguments: tuple[str, ...] = ()
    if name == SHIPPED:
        target, attribute = "lensgraph.tools.local.embedder.shipped", "ShippedEmbedder"
    elif kind == "transformers" and rest:
        target, attribute, arguments = (
            "lensgraph.tools.local.embedder.transformers_embedder",
            "TransformersEmbedder",
            (rest,),
        )
    elif colon and rest and "." in kind:
        target, attribute = kind, rest
    else:
        raise EmbedderError(
            f"Unknown embedder {name!r}; valid: {SHIPPED!r}, 'transformers:NAME', "
            "or an import path 'package.module:Class'."
        )
    try:
        embedder = getattr(importlib.import_module(target), attribute)(*arguments)
    except EmbedderError:
        raise
    except Exception as error:  # the boundary to foreign code: a module and a class that anybody may have written
        if isinstance(error, ModuleNotFoundError) and kind == "transformers":
            raise EmbedderError(
                f"Embedder {name!r} needs {error.name}: pip install '.[hub]' in a clone of LensGraph."
            ) from error
        raise EmbedderError(
            f"Embedder {name!r} cannot be loaded: {one_line(error).rstrip('.')}; correct the name, or install what it needs."
        ) from error
    if not isinstance(embedder, ImageEmbedder):
        raise EmbedderError(f"Embedder {name!r} is no {ImageEmbedder.__module__}.ImageEmbedder; subclass it.")
    return embedder
