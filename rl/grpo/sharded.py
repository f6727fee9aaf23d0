"""Refuse FSDP and DeepSpeed ZeRO-3, which split the weights over processes.

The rollout samples with the network's own modules, and the loss reads the weights of its vision tower, so
every process must hold all weights. With a shard of them both would go on without an error, on wrong numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIX = (
    "rollouts need whole weights on every process; use plain data parallelism (accelerate launch --multi_gpu), "
    "with lora for a large model"
)


def refuse_environment(environ: Mapping[str, str]) -> None:
    """Refuse a launch by `accelerate` that splits the weights, before anything is loaded.

    Raises:
        ValueError: the environment asks for split weights.
    """
    if environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1"):
        raise ValueError(f"FSDP splits the weights, and {FIX}")
    deepspeed = environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("true", "1")
    if deepspeed and environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise ValueError(f"DeepSpeed ZeRO-3 splits the weights, and {FIX}")


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
