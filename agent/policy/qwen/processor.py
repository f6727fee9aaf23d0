"""Load the processor of a checkpoint of any family; Qwen-VL's is here.

transformers' processor class insists on a video processor, and every video processor needs torchvision. This package
shows pictures only, so the class below leaves video out and works with the PIL image processor, which gives the same
pixels. The other families have a processor of transformers (`lensgraph.agent.policy.families.own_processor`).

Invariant: what comes back always has `image_processor` and `tokenizer`; a bare tokenizer, which AutoProcessor returns
silently when it does not know a processor class, is refused, because training would then go on without pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lensgraph.agent.policy.families.own_processor import load_own_processor
from lensgraph.agent.policy.families.table import FAMILIES, model_type
from lensgraph.agent.policy.render import IMAGE_PAD, VIDEO_PAD


class PictureProcessor(Qwen2_5_VLProcessor):
    """A Qwen2.5-VL processor for pictures and text, without video.

    `ProcessorMixin` finds its parts in the signature of `__init__`, so leaving out `video_processor` is enough.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        if tokenizer is None:
            raise ValueError("PictureProcessor needs a tokenizer, got None")
        self.image_token, self.video_token = IMAGE_PAD, VIDEO_PAD
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.video_token_id = tokenizer.convert_tokens_to_ids(VIDEO_PAD)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @property
    def merge_size(self) -> int:
        """Patches a side that become one token."""
        size: int = self.image_processor.merge_size
        return size

    def chat(self, messages: list[dict[str, str]], *, generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Messages and tools through the chat template."""
        render: Callable[..., str] = self.tokenizer.apply_chat_template
        given = {"tools": list(tools) or None, "chat_template": self.chat_template}
        return render(messages, tokenize=False, add_generation_prompt=generate, **given)

    def patches(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int, int]]:
        """The patches of a picture, and their grid (time, height, width)."""
        return patches_of(self.image_processor, picture)


# Saved checkpoints name the class that AutoProcessor of other programs knows: with another name they load the tokenizer
# alone, and drop pictures without a word. (pickle goes by `__qualname__`.)
PictureProcessor.__name__ = Qwen2_5_VLProcessor.__name__


def patches_of(image_processor: Any, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The patches (patches, pixels of a patch) of a picture as an image processor cuts them, float32, and their grid."""
    out = image_processor(images=[picture], return_tensors="np")
    time, height, width = (int(n) for n in out["image_grid_thw"][0])
    return np.asarray(out["pixel_values"], dtype=np.float32), (time, height, width)


def load_processor(model: str | Path) -> Any:
    """The processor of a checkpoint folder or hub name of any family, as the renderer and TRL use it.

    Raises:
        ValueError: the checkpoint is of no family, or lacks a part that a policy needs.
        OSError: transformers found no such model.
    """
    kind = model_type(model)
    if kind not in FAMILIES:
        raise ValueError(f"{model}: model_type {kind!r} is of no family; known: {', '.join(FAMILIES)}")
    return load_own_processor(model) if FAMILIES[kind].pictures != "grids" else _load(model)


def _load(model: str | Path) -> PictureProcessor:
    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.convert_tokens_to_ids(IMAGE_PAD) in (None, tokenizer.unk_token_id):
        raise ValueError(f"{model}: its tokenizer has no {IMAGE_PAD}; use a Qwen-VL checkpoint")
    image_processor = Qwen2VLImageProcessorPil.from_pretrained(model)
    template = tokenizer.chat_template or _template_beside(Path(model))
    if template is None:
        raise ValueError(f"{model}: no chat template in the tokenizer or in chat_template.jinja; add one")
    tokenizer.chat_template = template  # so that it is saved with the tokenizer
    return PictureProcessor(image_processor=image_processor, tokenizer=tokenizer, chat_template=template)


def _template_beside(folder: Path) -> str | None:
    """The chat template of older checkpoints, which keep it in a file of its own."""
    jinja, old = folder / "chat_template.jinja", folder / "chat_template.json"
    if jinja.is_file():
        return jinja.read_text("utf-8")
    return json.loads(old.read_text("utf-8"))["chat_template"] if old.is_file() else None
