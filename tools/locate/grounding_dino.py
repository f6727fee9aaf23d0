"""Grounding DINO through transformers: find a region of any picture from a phrase.

The model is loaded at the first call, from the hub or from a folder, and runs on a GPU where there is one. It knows objects
by their names (`the ginger cat`), which the embedded locator does not; it counts and orders poorly, which that one does.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from PIL import Image
from pydantic import Field, PrivateAttr

from tools.base import Locator
from tools.results import Box, LocateResult, Region, ToolFailure

DEFAULT_MODEL = "IDEA-Research/grounding-dino-tiny"
"""The smallest published checkpoint: about 170 M parameters."""


class GroundingDinoLocator(Locator):
    """Finds what a phrase names, with Grounding DINO."""

    description: str = "Find the part of a picture that a phrase names: 'the red car'. Returns boxes in pixels."
    model: str = DEFAULT_MODEL
    """Hub name or folder of a Grounding DINO checkpoint."""
    box_threshold: float = Field(default=0.3, ge=0, le=1)
    """Smallest score of a box; lower finds more and wrong ones. 0.3 is what the authors' demonstration uses."""
    text_threshold: float = Field(default=0.25, ge=0, le=1)
    """Smallest score of a word to be part of a box's label."""
    max_regions: int = Field(default=5, ge=1)
    """How many regions to return."""
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

    def _locate(self, image: Image.Image, expression: str) -> list[Region]:
        import torch  # the tool classes stay light to import; only this provider needs torch

        with self._lock:
            # One pass at a time: two on one device only compete for its memory.
            processor, model = self._load()
            inputs = processor(images=image, text=prompt(expression), return_tensors="pt").to(model.device)
            with torch.inference_mode():
                outputs = model(**inputs)
            found = processor.post_process_grounded_object_detection(
                outputs,
                inputs["input_ids"],
                threshold=self.box_threshold,
                text_threshold=self.text_threshold,
                target_sizes=[(image.height, image.width)],
            )[0]
        labels = found.get("text_labels") or found["labels"]
        regions = [
            Region(box=box, score=min(1.0, max(0.0, float(score))), label=str(label).replace("[SEP]", "").strip(" ."))
            # Not strict: with no box at all transformers still gives one label.
            for score, label, corners in zip(found["scores"], labels, found["boxes"].tolist(), strict=False)
            if (box := clipped(corners, image.size)) is not None
        ]
        return sorted(regions, key=lambda region: -region.score)[: self.max_regions]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            try:
                processor = AutoProcessor.from_pretrained(self.model)
                model = AutoModelForZeroShotObjectDetection.from_pretrained(self.model).eval().to(device)
            except (OSError, ValueError, ImportError) as error:
                line = " ".join(str(error).split())[:160]
                raise ToolFailure("unavailable", f"Grounding DINO {self.model!r} cannot be loaded: {line}") from error
            self._loaded = (processor, model)
        return self._loaded


def prompt(expression: str) -> str:
    """The phrase as the model was trained to read it: lower case, one full stop at the end."""
    phrase = " ".join(expression.lower().replace(".", " ").split())
    return f"{phrase}."


def clipped(corners: list[float], size: tuple[int, int]) -> Box | None:
    """A box inside the picture from four floats; None when nothing of it is."""
    left, top = max(0, round(corners[0])), max(0, round(corners[1]))
    right, bottom = min(size[0], round(corners[2])), min(size[1], round(corners[3]))
    if right <= left or bottom <= top:
        return None
    return Box(left=left, top=top, right=right, bottom=bottom)
