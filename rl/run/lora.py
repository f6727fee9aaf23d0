"""peft's configuration of adapters, from the options of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from peft import LoraConfig

from lensgraph.rl.run import option_names


def lora_config(target_modules: str, given: Mapping[str, Any]) -> LoraConfig:
    """The configuration of adapters on `target_modules`, each option of which a recipe's `lora` may replace.

    Raises:
        ValueError: peft has no such option, or it does not take the value.
    """
    option_names.check("lora", given, {one.name for one in fields(LoraConfig)}, "peft's LoraConfig")
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": target_modules, **given})
    except TypeError as error:
        raise ValueError(f"lora: {error}") from error
