"""Refuse FSDP and DeepSpeed ZeRO-3, which split the weights over processes.

The rollout samples with the network's own modules, and the loss reads the weights of its vision tower, so
every process must hold all weights. With a shard of them both would go on without an error, on wrong numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

FIX = (
    "rollouts need whole weights on every process; use plain data parallelism (accelerate launch --multi_gpu), "
    "with lora for a large model"
)


def refuse_environment(environ: Mapping[str, str]) -> None:
    """Refuse a launch by `accelerate` that splits the weights or cannot work, before anything is loaded.

    Raises:
        ValueError: the environment asks for split weights, or for DeepSpeed where it is not installed.
    """
    if environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1"):
        raise ValueError(f"FSDP splits the weights, and {FIX}")
    if by_deepspeed(environ) and environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise ValueError(f"DeepSpeed ZeRO-3 splits the weights, and {FIX}")
    if by_deepspeed(environ) and find_spec("deepspeed") is None:
        raise ValueError(
            "launched with DeepSpeed, and deepspeed is not installed; pip install deepspeed, or use --multi_gpu"
        )


def by_deepspeed(environ: Mapping[str, str]) -> bool:
    """Whether `accelerate` launched this process with DeepSpeed."""
    return environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("true", "1")


def refuse(accelerator: Any) -> None:
    """Refuse an accelerator that splits the weights, however it was configured.

    Raises:
        ValueError: it splits them.
    """
    if getattr(accelerator.state, "fsdp_plugin", None) is not None:
        raise ValueError(f"FSDP splits the weights, and {FIX}")
    deepspeed = getattr(accelerator.state, "deepspeed_plugin", None)
    if deepspeed is not None and deepspeed.zero_stage == 3:
        raise ValueError(f"DeepSpeed ZeRO-3 splits the weights, and {FIX}")
