"""A model's shape without its weights: the network on PyTorch's `meta` device, which holds sizes and no numbers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from lensgraph.agent.errors import UserError
from lensgraph.agent.pocket.checkpoints import checkpoint
from lensgraph.tools.safety.one_line import one_line

PUBLISHED: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text("utf-8"))
"""Model's name -> the fields of its published `config.json` that decide its size, so that no hub is asked for them."""


def load_shape(model: str, dtype: torch.dtype) -> nn.Module:
    """The network of `pocket`, a folder with a `config.json`, a published name, or a name that transformers finds.

    Raises:
        UserError: there is no configuration of that name, or it is of no vision-language model.
    """
    try:
        config = _configuration(model)
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config, dtype=dtype)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"start_from={model}: no configuration of a vision-language model ({one_line(error, 160, first=True)}); give a "
            f"folder with its config.json, or one of {', '.join(sorted(PUBLISHED))}"
        ) from error


def _configuration(model: str) -> Any:
    if model in PUBLISHED and not Path(model).is_dir():
        fields = copy.deepcopy(PUBLISHED[model])
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    return AutoConfig.from_pretrained(checkpoint(model))


def size(parameters: Any) -> int:
    """Numbers in these parameters, each counted once."""
    return sum(one.numel() for one in {id(one): one for one in parameters}.values())


def vision_size(network: nn.Module) -> int:
    """Parameters of the vision tower with its projection: all that belong neither to the decoder nor to the output's matrix."""
    base: Any = network
    inside = {id(one) for part in (base.get_decoder(), base.get_output_embeddings()) for one in part.parameters()}
    return size(one for one in network.parameters() if id(one) not in inside)


def adapter_size(network: nn.Module, options: dict[str, Any]) -> int:
    """Parameters of a LoRA adapter, by the options of peft's `LoraConfig`.

    Raises:
        UserError: its `target_modules` name no matrix of this model.
    """
    targets, rank = options["target_modules"], int(options.get("r", 8))
    named = {name: one for name, one in network.named_modules() if isinstance(one, nn.Linear)}
    if targets == "all-linear":
        matrices = [one for name, one in named.items() if not name.endswith("lm_head")]
    elif isinstance(targets, str):
        matrices = [one for name, one in named.items() if re.fullmatch(targets, name)]
    else:
        matrices = [one for name, one in named.items() if any(f".{name}".endswith(f".{end}") for end in targets)]
    if not matrices:
        raise UserError(f"lora.target_modules={targets}: this model has no matrix of that name")
    return sum(rank * (matrix.in_features + matrix.out_features) for matrix in matrices)
