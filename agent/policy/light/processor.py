"""The processor of a Qwen-VL checkpoint folder without torch and transformers: tokenizer, chat template, pictures.

Invariant: it renders the same ids and pixels as `lensgraph.agent.policy.qwen.processor` (tested).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from PIL import Image
from tokenizers import Tokenizer

from lensgraph.agent.policy.light.patches import Patches
from lensgraph.agent.policy.render import IMAGE_PAD


class Generation(Extension):
    """The `generation` block of chat templates, which marks the policy's text for a trainer; here it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The content between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class LightTokenizer:
    """The part of a transformers tokenizer that rendering needs."""

    def __init__(self, tokenizer: Any, *, eos: str) -> None:
        self._tokenizer = tokenizer
        self.eos_token = eos
        self.eos_token_id: int = tokenizer.token_to_id(eos)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """The id of a token, None if there is no such token; a list for a list."""
        if isinstance(tokens, str):
            return self._tokenizer.token_to_id(tokens)
        return [self._tokenizer.token_to_id(token) for token in tokens]


class LightProcessor:
    """Tokenizer, chat template and image processor of a checkpoint folder, for a `Renderer`."""

    def __init__(self, folder: Path) -> None:
        """Read a checkpoint folder; an `OSError` of one line if it is not of the Qwen-VL family."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: no tokenizer.json in that folder; give a complete checkpoint folder")
        settings = _json(folder / "tokenizer_config.json")
        self.tokenizer = LightTokenizer(Tokenizer.from_file(str(path)), eos=_text(settings.get("eos_token")))
        pad = self.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        if pad is None or self.tokenizer.eos_token_id is None:
            raise OSError(f"{folder}: its tokenizer has no {IMAGE_PAD} or no eos_token; use a Qwen2.5-VL checkpoint")
        self.image_token_id: int = pad
        self._patches = Patches.read(folder)
        self.merge_size = self._patches.merge
        # As transformers compiles chat templates; the sandbox, because a checkpoint may come from anywhere.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
        )
        environment.filters["tojson"] = _json_text
        self._template = environment.from_string(chat_template(folder, settings))
        self._tokens = {key: _text(value) for key, value in settings.items() if key.endswith("_token") and value}

    def chat(self, messages: list[dict[str, str]], *, generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Render messages and tools through the checkpoint's chat template."""
        given = {"messages": messages, "tools": list(tools) or None, "add_generation_prompt": generate}
        return self._template.render(**given, **self._tokens)

    def patches(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int, int]]:
        """The patches of a picture, and their grid (time, height, width)."""
        return self._patches(picture)


def chat_template(folder: Path, settings: dict[str, Any]) -> str:
    """The chat template, from any of the three places where checkpoints keep it."""
    path = folder / "chat_template.jinja"
    found = path.read_text("utf-8") if path.is_file() else settings.get("chat_template")
    found = found or _json(folder / "chat_template.json").get("chat_template")
    if not isinstance(found, str):
        raise OSError(f"{folder}: no chat template in the tokenizer or in chat_template.jinja; add one")
    return found


def _text(token: Any) -> str:
    """A token as text; older files hold an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _json_text(value: Any, **options: Any) -> str:
    """JSON as transformers' chat templates write it; jinja's own filter escapes HTML and sorts keys."""
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
