"""The vision tower's attention over all pictures of a batch in one call a layer.

Without flash-attention, transformers loops over pictures, which on a GPU costs thousands of small kernel
launches a step. Here the pictures of a batch are padded to the longest and go through one scaled-dot-product
call with a key mask.

Invariant (tested): outputs and gradients equal the loop's within float32 rounding.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)


def batch_pictures(tower: Any) -> None:
    """Replace the attention of every block of Qwen2.5-VL's vision tower, in place; any other module stays as it is."""
    if not isinstance(tower, Qwen2_5_VisionTransformerPretrainedModel):
        return
    for block in tower.blocks:
        block.attn.forward = types.MethodType(_forward, block.attn)


def _forward(
    self: Qwen2_5_VLVisionAttention,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    max_seqlen: int | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Attend within each picture: (patches, width) -> (patches, width); `cu_seqlens` (pictures + 1,) are the
    borders."""
    if position_embeddings is None:
        raise ValueError("vision attention needs position embeddings")
    total = hidden_states.shape[0]
    qkv = self.qkv(hidden_states).reshape(total, 3, self.num_heads, -1).permute(1, 0, 2, 3)
    query, key = apply_rotary_pos_emb_vision(qkv[0], qkv[1], *position_embeddings)
    lengths = cu_seqlens[1:] - cu_seqlens[:-1]
    longest = int(lengths.max()) if max_seqlen is None else max_seqlen
    pictures = lengths.shape[0]
    if pictures * longest == total:
        padded = [part.reshape(pictures, longest, self.num_heads, -1) for part in (query, key, qkv[2])]
        mask = slot = None
    else:
        column = torch.arange(longest, device=lengths.device)
        valid = column[None] < lengths[:, None]
        slot = valid.flatten().nonzero().flatten()
        padded = []
        for part in (query, key, qkv[2]):
            room = part.new_zeros(pictures * longest, *part.shape[1:])
            padded.append(room.index_copy(0, slot, part).reshape(pictures, longest, *part.shape[1:]))
        mask = valid[:, None, None, :]
    q, k, v = (part.transpose(1, 2) for part in padded)
    if q.is_cuda:
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scaling)
    else:  # the fused kernel's backward is slow on a CPU
        scores = (q @ k.transpose(-1, -2)) * self.scaling
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        out = scores.softmax(-1).to(v.dtype) @ v
    out = out.transpose(1, 2).reshape(pictures * longest, -1)
    return self.proj(out if slot is None else out.index_select(0, slot))
