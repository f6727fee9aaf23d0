"""The network of Qwen2.5-VL in plain torch: the same logits as transformers' (tested), loaded in milliseconds.

Importing transformers' own takes longer than a whole answer of the pocket policy. One dialogue at a time, float32, CPU.

Invariant: a `Memory` holds the keys and values of exactly the tokens in its `tokens`; a dialogue that begins with them
only pays for what is new.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.policy.errors import ContextFull
from agent.policy.positions import mrope_positions
from agent.policy.qwen_vision import Vision, frequencies, rms_norm, rotate
from agent.policy.qwen_weights import Shape, read_tensors
from agent.policy.render import Pixels

CHUNK = 256
"""Tokens by which the memory grows."""

Token = int | tuple[bytes, tuple[int, int, int]]
"""What the network read: a token id, or, in place of a placeholder, which picture stands there."""


class Memory:
    """Keys and values of every layer, with room to grow."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._kept: list[tuple[Tensor, Tensor]] = []

    def shared(self, tokens: list[Token]) -> int:
        """How many tokens at the start of a dialogue are known; the last one is always read anew, for its logits."""
        known = 0
        for mine, theirs in zip(self.tokens, tokens[:-1], strict=False):
            if mine != theirs:
                break
            known += 1
        return known

    def add(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (heads, tokens, width) behind `start`; all up to there."""
        end = start + keys.shape[1]
        if layer == len(self._kept):
            self._kept.append((keys.new_empty(keys.shape[0], 0, keys.shape[2]),) * 2)
        old_keys, old_values = self._kept[layer]
        if end > old_keys.shape[1]:
            room = (end // CHUNK + 1) * CHUNK - old_keys.shape[1]
            old_keys, old_values = (F.pad(old, (0, 0, 0, room)) for old in (old_keys, old_values))
            self._kept[layer] = old_keys, old_values
        old_keys[:, start:end], old_values[:, start:end] = keys, values
        return old_keys[:, :end], old_values[:, :end]


class Network:
    """A checkpoint folder's network."""

    def __init__(self, folder: Path) -> None:
        """Read it; an `OSError` in one line if this is no network that can run here."""
        self.shape = shape = Shape.read(folder)
        tensors = read_tensors(folder)
        try:
            self._join(tensors)
        except KeyError as error:
            raise OSError(f"{folder}: the checkpoint has no tensor {error}; give a complete Qwen2.5-VL") from error
        self._tensors = tensors
        self._vision = Vision(shape, tensors)
        self._frequencies = frequencies(shape.theta, shape.hidden // shape.heads)

    def _join(self, tensors: dict[str, Tensor]) -> None:
        """Projections of the same input become one product: at this size a call costs more than the arithmetic."""
        for n in range(self.shape.layers):
            layer = f"decoder.layers.{n}."
            for part in ("weight", "bias"):
                names = [f"{layer}self_attn.{kind}_proj.{part}" for kind in "qkv"]
                tensors[f"{layer}qkv.{part}"] = torch.cat([tensors.pop(name) for name in names])
            names = [f"{layer}mlp.{kind}_proj.weight" for kind in ("gate", "up")]
            tensors[f"{layer}gate_up.weight"] = torch.cat([tensors.pop(name) for name in names])
        if self.shape.tied:
            tensors["head.weight"] = tensors["decoder.embed_tokens.weight"]
        _ = tensors["head.weight"], tensors["decoder.norm.weight"], tensors["vision.patch_embed.proj.weight"]

    @torch.inference_mode()
    def read(self, memory: Memory, ids: list[int], pictures: list[Pixels]) -> Tensor:
        """Logits (vocabulary) behind a whole dialogue, of which `memory` may know the beginning.

        Raises:
            ValueError: placeholders and pictures do not match.
            ContextFull: the dialogue is longer than the context.
        """
        shape = self.shape
        if len(ids) > shape.context:
            raise ContextFull(
                f"a dialogue of {len(ids)} tokens is over the policy's {shape.context}; "
                "ask a shorter question or lower limits.turns"
            )
        grids = [picture.grid for picture in pictures]
        positions = torch.from_numpy(mrope_positions(ids, grids, shape.image_pad, shape.merge))
        tokens, owners = self._tokens(ids, pictures)
        start = memory.shared(tokens)
        memory.tokens = tokens[:start]  # if anything below fails, nothing false is remembered
        x = F.embedding(torch.tensor(ids[start:]), self._tensors["decoder.embed_tokens.weight"])
        for number, picture in enumerate(pictures):
            first, last = owners.index(number), len(owners) - owners[::-1].index(number)
            if last > start:
                seen = self._vision(torch.from_numpy(picture.values), picture.grid)
                x[max(first, start) - start : last - start] = seen[max(0, start - first) :]
        logits = self._decode(memory, x, positions[:, start:], start)
        memory.tokens = tokens
        return logits

    @torch.inference_mode()
    def step(self, memory: Memory, token: int, position: int) -> Tensor:
        """Logits behind one more token, which stands at a rotary position."""
        start = len(memory.tokens)
        x = F.embedding(torch.tensor([token]), self._tensors["decoder.embed_tokens.weight"])
        logits = self._decode(memory, x, torch.full((3, 1), position), start)
        memory.tokens.append(token)
        return logits

    def next_position(self, ids: list[int], pictures: list[Pixels]) -> int:
        """The rotary position of the token behind a dialogue."""
        grids = [picture.grid for picture in pictures]
        return int(mrope_positions([*ids, -1], grids, self.shape.image_pad, self.shape.merge)[0, -1])

    def _tokens(self, ids: list[int], pictures: list[Pixels]) -> tuple[list[Token], list[int]]:
        """The tokens with pictures in place of placeholders, and which picture each belongs to (-1: none)."""
        tokens: list[Token] = list(ids)
        owners = [-1] * len(ids)
        at = 0
        for number, picture in enumerate(pictures):
            at = ids.index(self.shape.image_pad, at)
            count = picture.grid[0] * picture.grid[1] * picture.grid[2] // self.shape.merge**2
            # by what it holds and not by its name: who changes pixels must get other words
            name = hashlib.sha256(picture.values.tobytes()).digest()
            tokens[at : at + count] = [(name, picture.grid)] * count
            owners[at : at + count] = [number] * count
            at += count
        return tokens, owners

    def _decode(self, memory: Memory, x: Tensor, positions: Tensor, start: int) -> Tensor:
        shape, tensors = self.shape, self._tensors
        turns = positions[..., None].to(torch.float32) * self._frequencies
        parts = turns.split(shape.sections, -1)
        turns = torch.cat([part[n % 3] for n, part in enumerate(parts)], -1).repeat(1, 2)
        cos, sin = turns.cos(), turns.sin()
        count = len(x)
        mask = None
        if count > 1:
            mask = torch.ones(count, start + count, dtype=torch.bool).tril(start)
        width = shape.hidden // shape.heads
        grouped = shape.heads != shape.kv_heads
        for n in range(shape.layers):
            layer = f"decoder.layers.{n}."
            seen = rms_norm(x, tensors[f"{layer}input_layernorm.weight"], shape.eps)
            qkv = F.linear(seen, tensors[f"{layer}qkv.weight"], tensors[f"{layer}qkv.bias"])
            qkv = qkv.view(count, -1, width).transpose(0, 1)
            q, k, v = qkv.split((shape.heads, shape.kv_heads, shape.kv_heads))
            keys, values = memory.add(n, start, rotate(k, cos, sin), v)
            if grouped:
                keys, values = (t.repeat_interleave(shape.heads // shape.kv_heads, 0) for t in (keys, values))
            out = F.scaled_dot_product_attention(rotate(q, cos, sin)[None], keys[None], values[None], mask)
            out = out[0].transpose(0, 1).reshape(count, -1)
            x = x + F.linear(out, tensors[f"{layer}self_attn.o_proj.weight"])
            seen = rms_norm(x, tensors[f"{layer}post_attention_layernorm.weight"], shape.eps)
            gate, up = F.linear(seen, tensors[f"{layer}gate_up.weight"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, tensors[f"{layer}mlp.down_proj.weight"])
        last = rms_norm(x[-1], tensors["decoder.norm.weight"], shape.eps)
        return F.linear(last, tensors["head.weight"])
