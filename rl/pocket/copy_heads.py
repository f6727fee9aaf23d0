"""Write a copying circuit into the initial weights of a small network.

A search agent copies what it reads: a name from image results, a value from a page. A transformer copies with
two heads in a row (Olsson et al. 2022, arXiv 2209.11895): the first attends to the previous token, and the
second, an induction head, attends to places whose previous token equals the current one. From a random start a
small model finds this pair only after millions of tokens of flat loss. Here the initial weights hold the pair,
and training changes them like all others.

The circuit uses three orthogonal subspaces of the hidden space, R, S and T. Layer 0, head 0 attends one token
back (biases alone, through the rotary phases) and writes that token's R part into S. Layer 1, heads 0 and 1 match
their R part against others' S part, and copy the R and T parts of the token they find into the output.
"""

from __future__ import annotations

import math

import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

SHARP = 12.0  # scale of the logits: the previous token outweighs its neighbours by about e**19
MATCH = 4.0  # scale of the logits: a match outweighs the noise of 4,000 random embeddings in 32 dimensions
WRITE, COPY = 0.1, 0.6  # output scales; 0.91 of random repeats are then copied before any training (see the tests)


@torch.no_grad()
def seed_copying(network: Qwen2_5_VLForConditionalGeneration, *, seed: int = 0) -> None:
    """Write the circuit into layers 0 and 1 of `network`, in place.

    Raises:
        ValueError: the network has grouped keys, fewer than 2 layers or heads, or is less than 3 heads wide.
    """
    config = network.config.text_config
    heads, width = config.num_attention_heads, config.hidden_size
    size = width // heads
    if config.num_key_value_heads != heads or config.num_hidden_layers < 2 or heads < 2 or 3 * size > width:
        raise ValueError(
            f"a copying start needs as many key-value heads as heads ({config.num_key_value_heads} of {heads}), "
            f"2 layers, 2 heads and a width of 3 heads ({width} of {3 * size})"
        )
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    r, s, t = basis[:size], basis[size : 2 * size], basis[2 * size : 3 * size]
    theta = config.rope_parameters["rope_theta"] ** (-torch.arange(size // 2) / (size // 2))

    back = network.model.language_model.layers[0].self_attn
    fast = torch.arange(size // 8)  # the fastest rotations tell neighbours apart
    for projection in (back.q_proj, back.k_proj):
        projection.weight[:size] = 0
        projection.bias[:size] = 0
    back.k_proj.bias[fast] = SHARP
    back.q_proj.bias[fast] = SHARP * torch.cos(theta[fast])
    back.q_proj.bias[fast + size // 2] = -SHARP * torch.sin(theta[fast])
    back.v_proj.weight[:size] = r
    back.o_proj.weight[:, :size] = WRITE * s.T

    induction = network.model.language_model.layers[1].self_attn
    # only slow rotations keep a match over a distance of a hundred tokens
    slow = torch.cat([torch.arange(size // 4, size // 2), torch.arange(3 * size // 4, size)])
    scale = MATCH * math.sqrt(size / 64)
    for head, part in enumerate((r, t)):
        rows = slice(head * size, (head + 1) * size)
        for projection, source in ((induction.q_proj, r), (induction.k_proj, s)):
            projection.weight[rows] = 0
            projection.bias[rows] = 0
            projection.weight[head * size + slow] = scale * source[: len(slow)]
        induction.v_proj.weight[rows] = part
        induction.o_proj.weight[:, rows] = COPY * part.T
