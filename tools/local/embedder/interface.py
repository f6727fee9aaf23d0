"""Picture to vector, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lensgraph.tools.results import ToolFailure

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


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
