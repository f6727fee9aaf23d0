"""Shared by the detectors of the transformers library that take a phrase.

The model is loaded at the first call, from the hub or from a folder, and runs on a GPU where there is one.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field, PrivateAttr

from lensgraph.tools.base import Locator
from lensgraph.tools.results import Box, LocateResult, Region, ToolFailure
from lensgraph.tools.safety.one_line import one_line


class PhraseDetector(Locator):
    """Finds what a phrase names with a zero-shot detector. A subclass writes `_detect`."""

    repeatable: ClassVar[bool] = True
    family: ClassVar[str]
    """Name of the model's family in messages."""

    description: str = "Find the part of a picture that a phrase names: 'the red car'. Returns boxes in pixels."
    model: str
    """Hub name or folder of a checkpoint."""
    box_threshold: float = Field(ge=0, le=1)
    """Smallest score of a box; lower finds more and wrong ones."""
    max_regions: int = Field(default=5, ge=1)
    """Most regions to return."""
    device: str | None = None
    """Torch device. None: the GPU where there is one."""

    _loaded: tuple[Any, Any] | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """Locate in a worker thread."""
        regions = await asyncio.to_thread(self._locate, image, expression)
        if not regions:
            raise ToolFailure("empty", f"Nothing in the picture looks like {expression[:100]!r}.")
        return LocateResult(expression=expression, regions=regions)

    def prepare(self) -> None:
        """Load the model."""
        with self._lock:
            self._load()

    @abstractmethod
    def _detect(self, processor: Any, model: Any, image: Image.Image, expression: str) -> tuple[Any, Any, list[str]]:
        """Scores and boxes (left, top, right, bottom in pixels) as tensors, and a label for each box."""

    def _locate(self, image: Image.Image, expression: str) -> list[Region]:
        with self._lock:  # one pass at a time: two on one device only compete for its memory
            processor, model = self._load()
            import torch  # there, since a model is loaded; the class stays light to import

            with torch.inference_mode():
                scores, boxes, labels = self._detect(processor, model, image, expression)
        regions = [
            Region(box=box, score=min(1.0, max(0.0, float(score))), label=label)
            # Not strict: with no box at all transformers still gives one label.
            for score, label, corners in zip(scores, labels, boxes.tolist(), strict=False)
            if (box := clipped(corners, image.size)) is not None
        ]
        return sorted(regions, key=lambda region: -region.score)[: self.max_regions]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                import torch
                from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor
            except ModuleNotFoundError as error:
                raise ToolFailure(
                    "unavailable", f"{self.family} needs {error.name}: pip install '.[hub]' in a clone of LensGraph."
                ) from error
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            try:
                processor = AutoProcessor.from_pretrained(self.model)
                model = AutoModelForZeroShotObjectDetection.from_pretrained(self.model).eval().to(device)
            except (OSError, ValueError, ImportError) as error:
                said = one_line(error, 160)
                raise ToolFailure("unavailable", f"{self.family} {self.model!r} cannot be loaded: {said}") from error
            self._loaded = (processor, model)
        return self._loaded


def clipped(corners: list[float], size: tuple[int, int]) -> Box | None:
    """A box inside the picture from four floats; None when nothing of it is."""
    left, top = max(0, round(corners[0])), max(0, round(corners[1]))
    right, bottom = min(size[0], round(corners[2])), min(size[1], round(corners[3]))
    if right <= left or bottom <= top:
        return None
    return Box(left=left, top=top, right=right, bottom=bottom)
