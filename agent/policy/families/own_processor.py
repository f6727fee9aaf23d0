"""A family's own processor of transformers, as the renderer uses it: for every family but Qwen-VL.

The processor itself says what stands in a picture's place: it is asked for one picture at a time, so what a picture becomes
does not depend on the others, and a dialogue can grow. (LLaVA-OneVision's would show several pictures of one text more
coarsely.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from PIL import Image
from transformers import AutoConfig

from lensgraph.agent.policy.hub_processor import load_processor
from lensgraph.agent.policy.render import PICTURE

PROBE = "snowman"
"""A turn of the assistant by which its end is found in the chat template."""


class OwnProcessor:
    """Mixed into a processor's class."""

    merge_size = 1
    control: re.Pattern[str]
    """Control tokens, which no text from outside may hold."""
    end_of_turn: str
    """The token behind a turn of the policy."""
    picture_tokens: list[str]
    """Control tokens of a picture, which the policy may not say."""
    tokenizer: Any
    image_token: str
    """The mark of a picture in a text before it is expanded."""
    image_token_id: int
    """Id of a placeholder, in whose place the network puts what it sees."""

    def prepare(self, model: str | Path) -> None:
        """Read the placeholder from the config, the control tokens from the tokenizer, and the end of a turn from the chat
        template.

        Raises:
            ValueError: the chat template ends a turn with no control token.
        """
        self.image_token_id = AutoConfig.from_pretrained(model).image_token_id  # Gemma's processor names its mark here
        added = self.tokenizer.added_tokens_decoder.values()
        marks = {token.content for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        self.control = re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)))
        turns = [{"role": "user", "content": PROBE}, {"role": "assistant", "content": PROBE}]
        end = self.control.search(self.chat(turns, generate=False).rpartition(PROBE)[2])
        if end is None:
            raise ValueError(f"{model}: its chat template ends a turn with no control token, so no turn would end")
        self.end_of_turn = end.group()
        shown = self.patches(Image.new("RGB", (64, 64)))[2]
        self.picture_tokens = sorted({self.image_token, *self.control.findall(shown)})

    def chat(self, messages: list[dict[str, str]], *, generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Messages and tools through the chat template, which says where a picture stands.

        Raises:
            ValueError: the chat template refuses them.
        """
        told = [{"role": message["role"], "content": _blocks(message["content"])} for message in messages]
        render: Any = self.apply_chat_template  # type: ignore[attr-defined]
        try:
            return str(render(told, tools=list(tools) or None, add_generation_prompt=generate, tokenize=False))
        except TemplateError as error:  # some demand that user and assistant take turns
            raise ValueError(f"the chat template refuses this dialogue: {error}") from error

    def patches(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int, int], str, dict[str, np.ndarray]]:
        """A picture's pixels, the number of its placeholders as a grid of one row, the text that stands in its place, and
        what else the network takes with it, by argument name."""
        ask: Any = self
        made = ask(images=[[picture]], text=[self.image_token], add_special_tokens=False, return_tensors="pt")
        ids = made.pop("input_ids")[0].tolist()
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        values = made.pop("pixel_values").float().numpy()
        more = {name: made[name].numpy() for name in ("image_sizes", "pixel_attention_mask") if name in made}
        return values, (1, 1, ids.count(self.image_token_id)), text, more

    def save(self, folder: str | Path) -> None:
        """Write the processor as its family keeps it: the tokenizer, the part for pictures, and its own settings."""
        own: Any = self
        own.save_pretrained(folder)
        own.image_processor.save_pretrained(folder)


def load_own_processor(model: str | Path) -> Any:
    """The processor of a checkpoint folder or hub name, with `OwnProcessor` mixed in.

    Raises:
        ValueError: it takes no pictures, or has no chat template that ends its turns.
        OSError: transformers found no such model.
    """
    processor = load_processor(str(model))
    plain = type(processor)
    processor.__class__ = type(plain.__name__, (OwnProcessor, plain), {})
    processor.prepare(model)
    return processor


def _blocks(content: str) -> list[dict[str, str]]:
    """A message of the renderer as the blocks of a chat template."""
    first, *others = content.split(PICTURE)
    blocks = [{"type": "text", "text": first}] if first or not others else []
    for text in others:
        blocks.append({"type": "image"})
        if text:
            blocks.append({"type": "text", "text": text})
    return blocks
