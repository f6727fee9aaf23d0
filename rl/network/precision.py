"""The precision of supervised training."""

from __future__ import annotations

import torch


def autocasts() -> bool:
    """Whether bfloat16 products are faster than float32 ones: on a GPU, and on a CPU with instructions for
    them, where they take half the time. A CPU without the instructions emulates them many times slower."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
