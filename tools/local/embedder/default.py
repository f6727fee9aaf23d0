"""The embedder that ships with the package, behind the common interface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from lensgraph.tools.local.embedder import embedding, shape
from lensgraph.tools.local.embedder.embedders import ImageEmbedder


class DefaultEmbedder(ImageEmbedder):
    """The shipped network: small, quick on a CPU, made for drawings and flags; photographs are not what it saw."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return shape.DIMENSION

    @property
    def fingerprint(self) -> str:
        """Hash of weights and preprocessing."""
        return embedding.fingerprint()

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """One unit row a picture."""
        return embedding.embed(pictures)
