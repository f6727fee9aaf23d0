"""Load the processor of any vision-language checkpoint of the hub, with or without torchvision.

Every video processor of transformers needs torchvision. This package shows pictures only, so a processor whose video part
cannot be loaded is assembled without it.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING


def load_processor(model: str) -> Any:
    """The processor that a checkpoint names, without its video part where torchvision is missing.

    Raises:
        ValueError: it has no part for pictures, or no chat template.
        OSError: transformers found no such model.
    """
    try:
        processor = AutoProcessor.from_pretrained(model)
    except (ImportError, ValueError) as error:  # every video processor needs torchvision; pictures do without
        if "torchvision" not in str(error).lower():
            raise
        processor = _without_video(model)
    if getattr(processor, "image_processor", None) is None:
        raise ValueError(f"{model}: its processor takes no pictures; use a vision-language checkpoint")
    if getattr(processor, "chat_template", None) is None:
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        raise ValueError(
            f"{model}: no chat template in the processor or the tokenizer; use an instruction-tuned checkpoint"
        )
    return processor


class _NoVideo:
    """Placeholder for a processor's video part: some processors read its settings even for a picture. All are None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _without_video(model: str) -> Any:
    """The checkpoint's processor, assembled from its parts except the one for video."""
    processor_class = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(model))]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if isinstance(argument, _NoVideo) else original(self, name, argument)

    def written(self: Any) -> dict[str, Any]:
        return {key: value for key, value in as_dict(self).items() if not isinstance(value, _NoVideo)}

    original, as_dict = processor_class.check_argument_for_proper_class, processor_class.to_dict
    changed = {"check_argument_for_proper_class": check, "to_dict": written}
    pictures_only = type(processor_class.__name__, (processor_class,), changed)
    stored, _ = processor_class.get_processor_dict(model)
    takes = set(inspect.signature(processor_class.__init__).parameters) - set(processor_class.get_attributes())
    return pictures_only(
        image_processor=AutoImageProcessor.from_pretrained(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        video_processor=_NoVideo(),
        **{key: value for key, value in stored.items() if key in takes},
    )
