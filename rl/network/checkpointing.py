"""Activation checkpointing under the name that the installed transformers gives it (`gradient_checkpointing` before 5.24)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

_NEW = "activation_checkpointing" in {one.name for one in fields(TrainingArguments)}


def argument(on: bool) -> dict[str, bool]:
    """The argument of `TrainingArguments` that turns it on or off."""
    return {"activation_checkpointing" if _NEW else "gradient_checkpointing": on}


def enable(network: Any) -> None:
    """Turn it on in a network."""
    name = "activation_checkpointing_enable" if _NEW else "gradient_checkpointing_enable"
    getattr(network, name)({"use_reentrant": False})
