"""Refuse a network that cannot be trained in the memory that is there, from its config.json alone.

The bound is a lower one (weights, gradients and the optimizer's moments; no activations, no keys and values), so nothing is
refused that could run.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from lensgraph.agent.policy.families import table as families

ADAM = 16
"""Bytes of a trained weight: float32 itself, its gradient, and AdamW's two moments."""
MUON = 12
"""Bytes of a trained weight under Muon, which has one moment."""
OTHER = 8
"""Bytes of a trained weight under any optimizer: float32 itself and its gradient."""


def refuse(model: Path, *, lora: bool, freeze_vision: bool = False, each: int = ADAM) -> None:
    """Refuse a checkpoint that this process's device cannot hold while it is trained.

    Args:
        model: Checkpoint folder or model name.
        lora: Only adapters are trained; they count as nothing.
        freeze_vision: The vision tower is not trained.
        each: Bytes of a trained weight.

    Raises:
        ValueError: the message says how much is needed and how much is there.
    """
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model))
    every = sum(weight.numel() for weight in network.parameters())
    eyes = families.eyes(network) if freeze_vision else []
    seeing = sum(weight.numel() for part in eyes for weight in part.parameters())
    kept = 2 if torch.cuda.is_available() else 4
    needed = every * kept if lora else (every - seeing) * each + seeing * 4
    have = device_bytes()
    if needed > have:
        fix = "take a larger one, or a smaller model" if lora else "train adapters (lora={r: 16}), or take a larger one"
        raise ValueError(
            f"{model}: {every / 1e9:.1f} billion weights need at least {needed / 1e9:.0f} GB to be trained "
            f"{'with' if lora else 'without'} lora, and the device has {have / 1e9:.0f} GB; {fix}"
        )


def device_bytes() -> int:
    """Memory of this process's GPU, or of the machine where there is none, in bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", "0"))).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
