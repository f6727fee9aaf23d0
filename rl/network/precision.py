"""In which precision supervised training computes."""

from __future__ import annotations

import torch


def autocasts() -> bool:
    """Whether products in bfloat16 are faster than in float32: on a GPU, and on a CPU with instructions for them, where they
    take half the time. Without those a CPU emulates them, many times slower."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
