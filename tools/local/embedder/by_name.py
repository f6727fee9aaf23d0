"""The embedder that a name in the configuration and in the index chooses.

Names: `embedded` (ships with the package), `transformers:NAME` (any vision model of transformers, by hub name or folder),
`package.module:Class` (your own subclass of `ImageEmbedder`).
"""

from __future__ import annotations

import importlib

from lensgraph.tools.local.embedder.interface import EmbedderError, ImageEmbedder
from lensgraph.tools.safety.one_line import one_line

SHIPPED = "embedded"
"""Name of the embedder that ships; a new index uses it."""


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
        target, attribute = "lensgraph.tools.local.embedder.transformers_embedder", "TransformersEmbedder"
        arguments = (rest,)
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
