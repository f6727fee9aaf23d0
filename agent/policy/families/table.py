"""Families of vision-language models: one row each, for serving, supervised and online training.

A family is a model type of transformers whose tokens and pictures are exactly those of its own processor: the renderer
keeps sampled ids, and training shows the pictures that the policy saw. `rl/MODELS.md` names the test behind each claim.

Invariants: a checkpoint of no row is refused from its `config.json` alone, before weights load; weights that lack a tensor
of their network, or hold one that it has no place for, are refused, because transformers fills the gap with random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import PreTrainedConfig

SHOWN = 3
"""Most names of tensors in an error."""
ATTENTION = "q_proj|k_proj|v_proj|o_proj"
"""The projections of a decoder block's attention."""
PROJECTIONS = f"{ATTENTION}|gate_proj|up_proj|down_proj"
"""Every projection of a decoder block."""

PROJECTED = ("vision_tower", "multi_modal_projector")


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    title: str
    """The name that people know it by."""
    network: str
    """Name of its class in transformers."""
    tower: tuple[str, ...]
    """Modules of the network's `model` that see: the vision tower, and what leads from it to the language model."""
    pictures: Literal["grids", "rows", "views", "flat", "typed"] = "grids"
    """Layout of a batch of pictures (`lensgraph.agent.policy.families.picture_batch`). `grids` is Qwen-VL's, with rotary
    positions in three parts (M-RoPE); its families have our own processor and sampler, the others transformers'."""
    decoder: str = "language_model"
    """Module of the network's `model` that reads and writes."""
    trained: bool = True
    """Trained as well as served."""


FAMILIES = {
    "qwen2_vl": Family("Qwen2-VL", "Qwen2VLForConditionalGeneration", ("visual",)),
    "qwen2_5_vl": Family("Qwen2.5-VL", "Qwen2_5_VLForConditionalGeneration", ("visual",)),
    "qwen3_vl": Family("Qwen3-VL", "Qwen3VLForConditionalGeneration", ("visual",)),
    "qwen3_vl_moe": Family("Qwen3-VL MoE", "Qwen3VLMoeForConditionalGeneration", ("visual",), trained=False),
    "smolvlm": Family(
        "SmolVLM", "SmolVLMForConditionalGeneration", ("vision_model", "connector"), "rows", decoder="text_model"
    ),
    "idefics3": Family(
        "Idefics 3", "Idefics3ForConditionalGeneration", ("vision_model", "connector"), "rows", decoder="text_model"
    ),
    "llava_onevision": Family("LLaVA-OneVision", "LlavaOnevisionForConditionalGeneration", PROJECTED, "views"),
    "internvl": Family("InternVL", "InternVLForConditionalGeneration", PROJECTED, "flat"),
    "gemma3": Family("Gemma 3", "Gemma3ForConditionalGeneration", PROJECTED, "typed"),
}
"""`model_type` in a checkpoint's config.json -> its family."""


def model_type(model: str | Path) -> str:
    """The `model_type` of a checkpoint folder or hub name. Reads its config.json only.

    Raises:
        OSError: transformers found no such model.
        ValueError: its config names no model type.
    """
    config, _ = PreTrainedConfig.get_config_dict(str(model))
    if not config.get("model_type"):
        raise ValueError(f"{model}: no model_type in its config.json; give a checkpoint that transformers can load")
    return str(config["model_type"])


def trained(model: str | Path) -> Family:
    """The family of a checkpoint that training is to begin with. Reads its config.json only.

    Raises:
        ValueError: its model type is of no family, or of one that is served only.
        OSError: transformers found no such model.
    """
    kind = model_type(model)
    if kind not in FAMILIES or not FAMILIES[kind].trained:
        served = f"{FAMILIES[kind].title} is served only; " if kind in FAMILIES else ""
        valid = ", ".join(name for name, family in FAMILIES.items() if family.trained)
        raise ValueError(
            f"{model}: model_type {kind!r} cannot be trained; {served}give a checkpoint of one of {valid} (rl/MODELS.md)"
        )
    return FAMILIES[kind]


def of(network: Any) -> Family:
    """The family of a network in memory, adapters or not."""
    return FAMILIES[network.config.model_type]


def decoder_modules(network: Any, names: str) -> str:
    """peft's pattern of the decoder's modules of these names (`q_proj|k_proj`); a tower's may have the same names."""
    return rf".*\b{of(network).decoder}\b.*\.({names})"


def decoder(network: Any) -> Any:
    """The module of a network that reads and writes."""
    return getattr(network.model, of(network).decoder)


def tower(network: Any) -> list[Any]:
    """The modules of a network's vision tower, without what leads from it to the decoder."""
    first = eyes(network)[0]
    return [first.patch_embed, first.blocks] if of(network).pictures == "grids" else [first]


def eyes(network: Any) -> list[Any]:
    """The modules of a network that see; the others read and write."""
    return [getattr(network.model, name) for name in of(network).tower]


def load_network(model: str | Path, dtype: torch.dtype) -> Any:
    """The network of a checkpoint folder or hub name, on the CPU.

    Raises:
        ValueError: its model type is of no family, or its weights are not exactly those of its network.
        OSError: transformers found no such model, or no weights.
    """
    kind = model_type(model)
    if kind not in FAMILIES:
        raise ValueError(f"{model}: model_type {kind!r} is of no family; known: {', '.join(FAMILIES)}")
    return load_whole(getattr(transformers, FAMILIES[kind].network), model, dtype)


def load_whole(network: Any, model: str | Path, dtype: torch.dtype) -> Any:
    """A checkpoint's weights in a class of transformers, with every tensor of both.

    Raises:
        ValueError: the weights lack a tensor, hold one too many, or hold one of another shape.
        OSError: transformers found no such model, or no weights.
    """
    try:
        loaded, told = network.from_pretrained(model, dtype=dtype, output_loading_info=True)
    except RuntimeError as error:  # a shape that does not fit
        raise ValueError(f"{model}: its weights do not fit its config.json ({str(error).splitlines()[0]})") from error
    wrong = [f"{len(told[f'{kind}_keys'])} {kind}" for kind in ("missing", "unexpected") if told[f"{kind}_keys"]]
    if wrong:
        names = sorted([*told["missing_keys"], *told["unexpected_keys"]])[:SHOWN]
        raise ValueError(
            f"{model}: its weights are not those of a {loaded.config.model_type} network: {' and '.join(wrong)} tensors "
            f"({', '.join(names)}, ...); give a whole checkpoint"
        )
    return loaded
