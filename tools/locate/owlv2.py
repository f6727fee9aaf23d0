"""OWLv2 through transformers: find a region of any picture from a short phrase.

It was trained on names of things rather than on sentences, so it is the better choice for rare objects and the worse one
for relations (`the cat left of the dog`). Its text encoder reads 16 tokens; a longer phrase is cut.
"""

from __future__ import annotations

from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from lensgraph.tools.locate.detector import PhraseDetector

DEFAULT_MODEL = "google/owlv2-base-patch16-ensemble"
"""The smallest published checkpoint: about 155 M parameters."""


class Owlv2Locator(PhraseDetector):
    """Finds what a phrase names, with OWLv2."""

    family: ClassVar[str] = "OWLv2"

    model: str = DEFAULT_MODEL
    """Hub name or folder of an OWLv2 (or OWL-ViT) checkpoint."""
    box_threshold: float = Field(default=0.1, ge=0, le=1)
    """Smallest score of a box; lower finds more and wrong ones. 0.1 is the library's default."""

    def _detect(self, processor: Any, model: Any, image: Image.Image, expression: str) -> tuple[Any, Any, list[str]]:
        phrase = prompt(expression)
        inputs = processor(
            images=image,
            text=[[phrase]],
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
        ).to(model.device)
        found = processor.post_process_grounded_object_detection(
            model(**inputs),
            threshold=self.box_threshold,
            target_sizes=[(image.height, image.width)],
        )[0]
        return found["scores"], found["boxes"], [expression.strip(" .")] * len(found["scores"])


def prompt(expression: str) -> str:
    """The phrase as the model was trained to read it: `a photo of` before the name of the thing."""
    words = expression.lower().replace(".", " ").split()
    if words and words[0] in ("a", "an", "the"):
        words = words[1:]
    return f"a photo of {' '.join(words)}"
