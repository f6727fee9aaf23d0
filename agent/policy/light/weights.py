"""The numbers and tensors of a Qwen2.5-VL checkpoint folder, without torch and transformers.

Invariants: a checkpoint that `lensgraph.agent.policy.light.numpy_qwen` would compute differently is refused here, in one line
that names the field; tensors have one set of names (`decoder.*`, `vision.*`), whichever of two spellings the file has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lensgraph.tools.runtime.tensors import read_safetensors

PREFIXES = {
    "model.language_model.": "decoder.", "model.visual.": "vision.", "lm_head.": "head.",
    "visual.": "vision.", "model.": "decoder.",
}  # fmt: skip
"""Prefix of a tensor's name in a file -> prefix here. Where one prefix begins another, the longer one comes first."""


@dataclass(frozen=True)
class NetworkShape:
    """The sizes of the network."""

    layers: int
    """Decoder layers."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key-value heads."""
    hidden: int
    """Width of the decoder."""
    eps: float
    """Epsilon of the decoder's norms."""
    theta: float
    """Base of the decoder's rotary frequencies."""
    sections: tuple[int, ...]
    """Rotary frequencies of time, height and width."""
    context: int
    """Longest dialogue, in tokens."""
    tied: bool
    """True if the output layer is the embedding."""
    image_pad: int
    """Id of a picture's placeholder."""
    vision_blocks: int
    """Blocks of the vision tower."""
    vision_heads: int
    """Heads of the vision tower."""
    vision_hidden: int
    """Width of the vision tower."""
    vision_theta: float
    """Base of the vision tower's rotary frequencies."""
    full_attention: tuple[int, ...]
    """Blocks that see the whole picture; the others see windows."""
    window: int
    """Side of a window, in tokens."""
    merge: int
    """Side, in patches, of the square that becomes one token."""

    @classmethod
    def read(cls, folder: Path) -> NetworkShape:
        """Read the sizes in a folder's `config.json`.

        Raises:
            OSError: this network cannot run it; the message names the field.
        """
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        _require(folder, "model_type", config.get("model_type"), "qwen2_5_vl")
        if "text_config" not in config:
            raise OSError(f"{folder}: config.json has no text_config (an old layout); use policy.kind=transformers")
        text, vision = config["text_config"], config["vision_config"]
        rope = text.get("rope_parameters") or {"rope_theta": text.get("rope_theta"), **(text.get("rope_scaling") or {})}
        kind = rope.get("rope_type", rope.get("type", "default"))
        _require(folder, "text_config.rope_parameters.rope_type", "default" if kind == "mrope" else kind, "default")
        _require(folder, "text_config.hidden_act", text.get("hidden_act", "silu"), "silu")
        _require(folder, "text_config.use_sliding_window", bool(text.get("use_sliding_window")), False)
        _require(folder, "vision_config.hidden_act", vision.get("hidden_act", "silu"), "silu")
        merge = vision.get("spatial_merge_size", 2)
        return cls(
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            hidden=text["hidden_size"],
            eps=text.get("rms_norm_eps", 1e-5),
            theta=rope["rope_theta"],
            sections=tuple(rope.get("mrope_section", (16, 24, 24))),
            context=text.get("max_position_embeddings", 32768),
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
            image_pad=config["image_token_id"],
            vision_blocks=vision["depth"],
            vision_heads=vision["num_heads"],
            vision_hidden=vision["hidden_size"],
            vision_theta=(vision.get("rope_parameters") or {}).get("rope_theta", 10000.0),
            full_attention=tuple(vision["fullatt_block_indexes"]),
            window=vision["window_size"] // merge // vision["patch_size"],
            merge=merge,
        )


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Read every tensor in float32, from one file or from the shards that an index names.

    Raises:
        FileNotFoundError: there are no safetensors.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    found: dict[str, np.ndarray] = {}
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name} in that folder; give a complete checkpoint folder")
        found |= {_name(key): tensor for key, tensor in read_safetensors(folder / name).items()}
    return found


def _name(key: str) -> str:
    for prefix, ours in PREFIXES.items():
        if key.startswith(prefix):
            return ours + key.removeprefix(prefix)
    return key


def _require(folder: Path, field: str, value: object, needed: object) -> None:
    if value != needed:
        raise OSError(
            f"{folder}: {field} is {value!r}, policy.kind=pocket runs {needed!r} only; use policy.kind=transformers"
        )
