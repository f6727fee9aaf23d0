"""The network of Qwen2.5-VL in numpy: the same logits as transformers' (tested). One dialogue at a time, float32, CPU.

A forward of our own, because importing torch and transformers takes longer than a whole answer of the pocket policy: a first
question took 4.4 s with numpy and 16.8 s with torch, and torch is over half a gigabyte to install.

Invariant: a `KVCache` holds the keys and values of exactly the tokens in its `tokens`; a dialogue that begins with them costs
its new tokens only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lensgraph.agent.limits import context_problem
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.light.mathematics import attention, frequencies, linear, rms_norm, rotate, silu
from lensgraph.agent.policy.light.vision import Vision
from lensgraph.agent.policy.light.weights import NetworkShape, read_tensors
from lensgraph.agent.policy.positions import mrope_positions
from lensgraph.agent.policy.render import Pixels

CHUNK = 256
"""Least number of tokens by which the buffer of a `KVCache` grows; a long one grows by half, so that copies stay rare."""

Token = int | tuple[bytes, tuple[int, int, int]]
"""A token id or, for a placeholder, its picture: the hash of the pixels, and their grid."""


class KVCache:
    """Keys and values of every layer for one dialogue, in a buffer with room to grow."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._kept: np.ndarray | None = None

    def shared(self, tokens: list[Token]) -> int:
        """Number of tokens at the start of a dialogue that are cached; the last one is always read anew, for its logits."""
        known = 0
        for mine, theirs in zip(self.tokens, tokens[:-1], strict=False):
            if mine != theirs:
                break
            known += 1
        return known

    def room(self, shape: NetworkShape, end: int) -> np.ndarray:
        """The buffer of keys and values, (layers, 2, heads, tokens, width), with room for `end` tokens."""
        if self._kept is None or end > self._kept.shape[3]:
            tokens = max(end + CHUNK, end * 3 // 2)
            width = shape.hidden // shape.heads
            grown = np.empty((shape.layers, 2, shape.kv_heads, tokens, width), np.float32)
            if self._kept is not None:
                grown[:, :, :, : self._kept.shape[3]] = self._kept
            self._kept = grown
        return self._kept


@dataclass(frozen=True)
class DecoderLayer:
    """The tensors of a decoder layer. Projections of the same input are joined: a call costs more than its arithmetic."""

    before: np.ndarray
    """Norm before the attention."""
    qkv: np.ndarray
    """Projection to queries (scaled), keys and values."""
    qkv_bias: np.ndarray
    """Bias of that projection."""
    out: np.ndarray
    """Output projection of the attention."""
    between: np.ndarray
    """Norm before the feed-forward part."""
    gate_up: np.ndarray
    """Gate and up projection of the feed-forward part."""
    down: np.ndarray
    """Down projection, to the width of the decoder."""

    @classmethod
    def take(cls, n: int, shape: NetworkShape, tensors: dict[str, np.ndarray]) -> DecoderLayer:
        """Take the tensors of layer `n` out of `tensors`; a `KeyError` names a missing one."""

        def joined(part: str, kinds: str, of: str) -> np.ndarray:
            found = [tensors.pop(f"decoder.layers.{n}.{part}.{kind}_proj.{of}") for kind in kinds.split()]
            return found[0] if len(found) == 1 else np.concatenate(found)

        qkv, bias = joined("self_attn", "q k v", "weight"), joined("self_attn", "q k v", "bias")
        for queries in (qkv[: shape.hidden], bias[: shape.hidden]):
            queries *= (shape.hidden // shape.heads) ** -0.5
        return cls(
            before=tensors.pop(f"decoder.layers.{n}.input_layernorm.weight"),
            qkv=qkv,
            qkv_bias=bias,
            out=joined("self_attn", "o", "weight"),
            between=tensors.pop(f"decoder.layers.{n}.post_attention_layernorm.weight"),
            gate_up=joined("mlp", "gate up", "weight"),
            down=joined("mlp", "down", "weight"),
        )


class LightNetwork:
    """The network of a checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; an `OSError` of one line if its network cannot run here."""
        self.shape = shape = NetworkShape.read(folder)
        tensors = read_tensors(folder)
        try:
            self._layers = [DecoderLayer.take(n, shape, tensors) for n in range(shape.layers)]
            self._embedding, self._norm = tensors["decoder.embed_tokens.weight"], tensors["decoder.norm.weight"]
            self._head = self._embedding if shape.tied else tensors["head.weight"]
            self._vision = Vision(shape, tensors)
        except KeyError as error:
            raise OSError(f"{folder}: the checkpoint has no tensor {error}; give a complete Qwen2.5-VL") from error
        self._frequencies = frequencies(shape.theta, shape.hidden // shape.heads)
        # the axis (time, height or width) whose position rotates each frequency
        self._axis = np.repeat(np.arange(len(shape.sections)) % 3, shape.sections)

    def read(self, cache: KVCache, ids: list[int], pictures: list[Pixels]) -> np.ndarray:
        """Logits (vocabulary) of the token after a dialogue, whose beginning may be in `cache`.

        Raises:
            ValueError: placeholders and pictures do not match.
            ContextFull: the dialogue is longer than the context.
        """
        shape = self.shape
        if problem := context_problem(len(ids), shape.context):
            raise ContextFull(problem)
        positions = mrope_positions(ids, [picture.grid for picture in pictures], shape.image_pad, shape.merge)
        tokens, owners = self._tokens(ids, pictures)
        start = cache.shared(tokens)
        cache.tokens = tokens[:start]  # if anything below fails, the cache stays true
        x = self._embedding[ids[start:]]
        for number, picture in enumerate(pictures):
            first, last = owners.index(number), len(owners) - owners[::-1].index(number)
            if last > start:
                seen = self._vision(picture.values, picture.grid)
                x[max(first, start) - start : last - start] = seen[max(0, start - first) :]
        logits = self._decode(cache, x, positions[:, start:], start)
        cache.tokens = tokens
        return logits

    def step(self, cache: KVCache, token: int, position: int) -> np.ndarray:
        """Logits after one more token, whose rotary position is `position`."""
        logits = self._decode(cache, self._embedding[[token]], np.full((3, 1), position), len(cache.tokens))
        cache.tokens.append(token)
        return logits

    def next_position(self, ids: list[int], pictures: list[Pixels]) -> int:
        """Rotary position of the token after a dialogue."""
        grids = [picture.grid for picture in pictures]
        return int(mrope_positions([*ids, -1], grids, self.shape.image_pad, self.shape.merge)[0, -1])

    def _tokens(self, ids: list[int], pictures: list[Pixels]) -> tuple[list[Token], list[int]]:
        """The tokens with pictures in place of placeholders, and the number of the picture of each (-1: none)."""
        tokens: list[Token] = list(ids)
        owners = [-1] * len(ids)
        at = 0
        for number, picture in enumerate(pictures):
            at = ids.index(self.shape.image_pad, at)
            count = picture.grid[0] * picture.grid[1] * picture.grid[2] // self.shape.merge**2
            # by its pixels and not by its id: other pixels must never reuse these keys and values
            name = hashlib.sha256(picture.values.tobytes()).digest()
            tokens[at : at + count] = [(name, picture.grid)] * count
            owners[at : at + count] = [number] * count
            at += count
        return tokens, owners

    def _decode(self, cache: KVCache, x: np.ndarray, positions: np.ndarray, start: int) -> np.ndarray:
        shape = self.shape
        turns = positions[self._axis].T.astype(np.float32) * self._frequencies
        cos, sin = np.cos(turns), np.sin(turns)
        heads, turned = shape.heads, shape.heads + shape.kv_heads
        count, end = len(x), start + len(x)
        kept = cache.room(shape, end)
        for layer, (keys, values) in zip(self._layers, kept, strict=True):
            seen = rms_norm(x, layer.before, shape.eps)
            qkv = linear(seen, layer.qkv, layer.qkv_bias).reshape(count, turned + shape.kv_heads, -1).transpose(1, 0, 2)
            qk = rotate(qkv[:turned], cos, sin)
            keys[:, start:end], values[:, start:end] = qk[heads:], qkv[turned:]
            q = qk[:heads]
            if layer is self._layers[-1]:  # only the last token's output is needed
                q, x = q[:, -1:], x[-1:]
            out = attention(q, keys[:, :end], values[:, :end], end - len(x))
            x = x + linear(out, layer.out)
            gate_up = linear(rms_norm(x, layer.between, shape.eps), layer.gate_up)
            middle = gate_up.shape[-1] // 2
            gate = silu(gate_up[:, :middle])
            gate *= gate_up[:, middle:]
            x += linear(gate, layer.down)
        logits: np.ndarray = linear(rms_norm(x, self._norm, shape.eps), self._head)[0]
        return logits
