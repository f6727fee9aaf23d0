"""The processes that share a training run, by the variables that `torchrun` and `accelerate launch` set."""

from __future__ import annotations

import os

import torch


def count() -> int:
    """Processes of the run, over all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def here() -> int:
    """Processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def rank() -> int:
    """Number of this process; process 0 writes what is written once."""
    return int(os.environ.get("RANK", "0"))


def devices() -> int:
    """Devices that each bring rows of their own to a step: a process's one, or all GPUs of a single process."""
    return count() if count() > 1 else max(1, torch.cuda.device_count())
