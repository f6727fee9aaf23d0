"""Grounding DINO through transformers: find a region of any picture from a phrase.

It knows objects by their names (`the ginger cat`), which the embedded locator does not; it counts and orders poorly, which
that one does.
"""

from __future__ import annotations

from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from lensgraph.tools.locate.detector import PhraseDetector

DEFAULT_MODEL = "IDEA-Research/grounding-dino-tiny"
"""The smallest published checkpoint: about 170 M parameters."""


class GroundingDinoLocator(PhraseDetector):
    """Finds what a phrase names, with Grounding DINO."""

    family: ClassVar[str] = "Grounding DINO"

    model: str = DEFAULT_MODEL
    """Hub name or folder of a Grounding DINO checkpoint."""
    box_threshold: float = Field(default=0.3, ge=0, le=1)
    """Smallest score of a box; lower finds more and wrong ones. 0.3 is what the authors' demonstration uses."""
    text_threshold: float = Field(default=0.25, ge=0, le=1)
    """Smallest score of a word to be part of a box's label."""

    def _detect(self, processor: Any, model: Any, image: Image.Image, expression: str) -> tuple[Any, Any, list[str]]:
        inputs = processor(images=image, text=prompt(expression), return_tensors="pt").to(model.device)
        found = processor.post_process_grounded_object_detection(
            model(**inputs),
            inputs["input_ids"],
            threshold=self.box_threshold,
            text_threshold=self.text_threshold,
            target_sizes=[(image.height, image.width)],
        )[0]
        labels = found["text_labels"] if "text_labels" in found else found["labels"]
        return found["scores"], found["boxes"], [str(label).replace("[SEP]", "").strip(" .") for label in labels]


def prompt(expression: str) -> str:
    """The phrase as the model was trained to read it: lower case, one full stop at the end."""
    phrase = " ".join(expression.lower().replace(".", " ").split())
    return f"{phrase}."
