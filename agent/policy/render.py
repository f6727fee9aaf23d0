"""Turn a dialogue into token ids and pictures, exactly as the policy sampled and saw them before.

Invariants:
- A turn that carries `response_metadata["token_ids"]` enters with those ids; sampled ids are never decoded and encoded
  again, because byte-level tokenizers do not survive that round trip.
- Rendering is append-only: the ids of a dialogue start with the ids of every earlier state of it.
- Placeholders of a picture = rows of its grid / merge_size**2, in the order in which the pictures appear.

Not covered: chat templates that rewrite earlier turns (such as those that drop old reasoning); they are refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage
from PIL import Image

from lensgraph.agent.chat import tool_calls

IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
PICTURE = f"{VISION_START}{IMAGE_PAD}{VISION_END}"
"""A picture in the text of a message, before the chat template; text from outside cannot hold it."""
PICTURE_TOKENS = [IMAGE_PAD, VIDEO_PAD, VISION_START, VISION_END, "<|vision_pad|>"]
"""Tokens that a policy may not sample: there would be no pixels behind them."""
ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def picture_bytes(block: dict[str, Any]) -> bytes:
    """The encoded picture of an image block: `base64`, or an OpenAI `image_url` that is a data URI.

    Raises:
        ValueError: the block holds neither; an address is not fetched here.
    """
    encoded = block.get("base64")
    if encoded is None and block.get("type") == "image_url":
        given = block.get("image_url")
        uri = str(given.get("url", "") if isinstance(given, dict) else given)
        encoded = uri.partition(";base64,")[2] if uri.startswith("data:") else None
    if not encoded:
        raise ValueError(f"image block with neither 'base64' nor 'image': keys {sorted(block)}")
    return base64.b64decode(encoded)


@dataclass(frozen=True)
class Pixels:
    """One picture as the vision tower takes it."""

    id: str
    """sha256 of the picture's encoded bytes, or of its raw pixels if it came as a PIL image."""
    values: np.ndarray
    """(patches, channels * temporal * patch * patch), float32, normalised; the families' own processors give views of a
    picture, (..., channels, height, width)."""
    grid: tuple[int, int, int]
    """(time, height, width) in patches; of a picture with a `text` of its own, (1, 1, placeholders)."""
    picture: Image.Image | None = field(default=None, repr=False, compare=False)
    """The picture itself, RGB, for an engine that processes pictures on its own; None unless the renderer keeps them."""
    text: str = ""
    """The text in the picture's place, placeholders among it. Empty: as many placeholders as the grid asks for."""
    more: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """Arrays that the network takes with this picture besides, by argument name."""


@dataclass
class Rendered:
    """A dialogue in tokens."""

    ids: list[int] = field(default_factory=list)
    """Token ids, image placeholders expanded."""
    mask: list[int] = field(default_factory=list)
    """Same length: 1 where the policy wrote the token (with its end-of-turn), 0 where the environment did."""
    pixels: list[Pixels] = field(default_factory=list)
    """Every picture, in token order."""

    def extend(self, ids: Sequence[int], mask: int) -> None:
        """Append `ids`, all sampled (mask 1) or all from the environment (mask 0)."""
        self.ids += ids
        self.mask += [mask] * len(ids)


class Processor(Protocol):
    """A checkpoint's chat template, tokenizer and image processor; one is from transformers, one runs without it."""

    @property
    def tokenizer(self) -> Any:
        """Has transformers' `encode`, `decode`, `convert_tokens_to_ids`, `eos_token` and `eos_token_id`."""

    @property
    def image_token_id(self) -> int:
        """Id of a picture's placeholder."""

    @property
    def merge_size(self) -> int:
        """Side, in patches, of the square that becomes one token."""

    def chat(self, messages: list[dict[str, str]], *, generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Render messages, and the tools that the policy may call, through the chat template."""

    def patches(self, picture: Image.Image) -> tuple[Any, ...]:
        """The patches of a picture, and their grid (time, height, width); maybe also `Pixels.text` and `Pixels.more`."""


class Renderer:
    """Renders LangChain messages with a checkpoint's own chat template, tokenizer and image processor."""

    def __init__(self, processor: Processor, *, cached_pictures: int = 256, keep_pictures: bool = False) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self._end: str = getattr(processor, "end_of_turn", self.tokenizer.eos_token)
        self.eos: int = self.tokenizer.convert_tokens_to_ids(self._end)
        """Id of the token that ends a turn."""
        self.image_pad: int = processor.image_token_id
        self._merge: int = processor.merge_size**2
        self._cache: OrderedDict[str, Pixels] = OrderedDict()
        self._cached_pictures, self._keep_pictures = cached_pictures, keep_pictures
        self._dummy = [{"role": "user", "content": "d"}, {"role": "assistant", "content": "d"}]
        self._dummy_text = processor.chat(self._dummy, generate=False)

    def offer(self, tools: Sequence[dict[str, Any]]) -> str:
        """The beginning of a dialogue in which tools are offered."""
        return self.processor.chat(self._dummy[:1], generate=True, tools=tools)

    def render(
        self, messages: Sequence[BaseMessage], *, generate: bool = True, tools: Sequence[dict[str, Any]] = ()
    ) -> Rendered:
        """Render `messages`; with `generate`, the tokens end with the header of the policy's next turn. `tools` are offered
        at the beginning, where chat templates tell of them.

        Raises:
            ValueError: the dialogue does not begin with a user or system message, an image block holds no picture, or
                the chat template is not prefix-preserving.
        """
        out = Rendered()
        pending: list[BaseMessage] = []
        started = False
        for message in messages:
            if not isinstance(message, AIMessage):
                pending.append(message)
                continue
            if not pending and not started:
                raise ValueError("the policy spoke first: a turn needs a message before it")
            self._environment(out, pending, generate=True, tools=tools, first=not started)
            ids = self.turn_ids(message)
            sampled = len(message.response_metadata.get("token_ids") or ids)
            out.extend(ids[:sampled], 1)
            out.extend(ids[sampled:], 0)  # the end of a turn that a length limit cut was never sampled
            pending, started = [], True
        if pending:
            self._environment(out, pending, generate=generate, tools=tools, first=not started)
        return out

    def turn_ids(self, message: AIMessage) -> list[int]:
        """Ids of a turn of the policy, end-of-turn token included: as sampled, or encoded if it was not sampled."""
        sampled = message.response_metadata.get("token_ids")
        text = tool_calls.as_text(message)
        ids = list(sampled) if sampled else self.tokenizer.encode(text, add_special_tokens=False)
        return ids if ids and ids[-1] == self.eos else [*ids, self.eos]

    def pixels(self, block: dict[str, Any]) -> Pixels:
        """The picture of an image block: `base64`, a PIL image under `image`, or finished `pixels`."""
        if "pixels" in block:
            done: Pixels = block["pixels"]
            return done
        key = block.get("id")
        if key and key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        picture = block.get("image")
        if picture is None:
            data = picture_bytes(block)
            key = key or hashlib.sha256(data).hexdigest()
            picture = Image.open(io.BytesIO(data))
        picture = picture.convert("RGB")
        key = key or hashlib.sha256(picture.tobytes()).hexdigest()
        values, grid, *own = self.processor.patches(picture)
        pixels = Pixels(key, values, grid, picture if self._keep_pictures else None, *own)
        self._cache[key] = pixels
        while len(self._cache) > self._cached_pictures:
            self._cache.popitem(last=False)
        return pixels

    def _environment(
        self,
        out: Rendered,
        messages: list[BaseMessage],
        *,
        generate: bool,
        tools: Sequence[dict[str, Any]],
        first: bool,
    ) -> None:
        """Append the messages between two turns of the policy."""
        chat, pictures = [], []
        for message in messages:
            content, found = self._content(message)
            chat.append({"role": ROLES[message.type], "content": content})
            pictures += found
        if first:
            text = self.processor.chat(chat, generate=generate, tools=tools)
        else:
            text = self.processor.chat(self._dummy + chat, generate=generate)
            if not text.startswith(self._dummy_text):
                raise ValueError(
                    "the chat template rewrites earlier turns; training and serving need one that only appends"
                )
            # the policy's own end-of-turn token is already there; the template's text behind it is not
            cut = self._dummy_text.rindex(self._end) + len(self._end)
            text = text[cut:]
        out.extend(self._ids(text, pictures), 0)
        out.pixels += pictures

    def _ids(self, text: str, pictures: Sequence[Pixels]) -> list[int]:
        """The ids of a text in which every picture has one placeholder.

        Raises:
            ValueError: it has more or fewer of them.
        """
        mark = getattr(self.processor, "image_token", IMAGE_PAD)
        if text.count(mark) != len(pictures):
            raise ValueError(
                f"the chat template shows {text.count(mark)} of {len(pictures)} pictures; use one that shows all"
            )
        if any(picture.text for picture in pictures):
            between = text.split(mark)
            whole = "".join(a + b.text for a, b in zip(between, pictures, strict=False)) + between[-1]
            return list(self.tokenizer.encode(whole, add_special_tokens=False))
        ids: list[int] = []
        remaining = iter(pictures)
        for token in self.tokenizer.encode(text, add_special_tokens=False):
            if token != self.image_pad:
                ids.append(token)
                continue
            picture = next(remaining)
            ids += [token] * (int(np.prod(picture.grid)) // self._merge)
        return ids

    def _content(self, message: BaseMessage) -> tuple[str, list[Pixels]]:
        """A message as one string with image placeholders, and its pictures."""
        if isinstance(message.content, str):
            return self.clean(message.content), []
        parts, pictures = [], []
        for block in message.content:
            if isinstance(block, str):
                parts.append(self.clean(block))
            elif block.get("type") in ("image", "image_url"):
                pictures.append(self.pixels(block))
                parts.append(PICTURE)
            elif block.get("type") == "text":
                parts.append(self.clean(block["text"]))
            else:
                raise ValueError(f"content block of type {block.get('type')!r}; the policy takes 'text' and 'image'")
        return "".join(parts), pictures

    def clean(self, text: str) -> str:
        """The text with control tokens broken up, so that no text from outside can end a turn or announce a picture."""
        text = text.replace("<|", "<\u200b|") if "<|" in text else text
        own = getattr(self.processor, "control", None)  # of families whose control tokens look otherwise
        return text if own is None else own.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)

    def picture_tokens(self) -> list[int]:
        """Ids that a policy may not sample."""
        names = getattr(self.processor, "picture_tokens", PICTURE_TOKENS)
        return [i for i in self.tokenizer.convert_tokens_to_ids(names) if i is not None]
