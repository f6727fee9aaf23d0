"""Keys and values of the dialogues that are being decoded, one row each, in one buffer.

Every row begins at the left and has a length of its own, so a dialogue can join or leave at any token and no other row moves.
transformers' `DynamicCache` keeps all rows at one length and copies them at every token.

Invariant: `states[:, :, row, :, :length(row)]` are exactly the tokens of that row; the columns behind it are never read.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

CACHE = "cache" if "cache" in inspect.signature(Qwen2_5_VLTextModel.forward).parameters else "past_key_values"
"""The name that the installed transformers gives the argument with the cache."""
BLOCK = 128
"""Tokens to a multiple of which the buffer grows, so that it is not copied at every token."""
SPARE = 4
"""The buffer is shrunk once it is more than 4 times larger than needed, as after one long dialogue."""


class KVRows:
    """The rows of a network of the Qwen2.5-VL family."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._states = empty(network, 0, 0)
        self._lengths: list[int] = []
        self._ends: list[int] = []
        self._following: list[int] = []

    def __len__(self) -> int:
        return len(self._lengths)

    def reserve(self, rows: int, tokens: int) -> None:
        """Make room for `rows` rows of `tokens` tokens, so that adding them copies nothing. Shrinks a buffer that is far too
        large (`SPARE`)."""
        tokens = max([tokens, *self._ends])  # rows that are being decoded keep the room that `add` promised
        if self._states.shape[2] * self._states.shape[4] > SPARE * rows * (tokens + BLOCK):
            self._move(rows, tokens)
        else:
            self._grow(rows, tokens)

    def add(self, parts: list[torch.Tensor], following: int, room: int) -> None:
        """Add a row at the end.

        Args:
            parts: its states in consecutive parts, each (layers, 2, heads, tokens, head size).
            following: rotary position of its next token.
            room: most tokens that it may still grow by.
        """
        length, row = sum(part.shape[3] for part in parts), len(self)
        self._grow(row + 1, length + room)
        start = 0
        for part in parts:
            self._states[:, :, row, :, start : start + part.shape[3]] = part
            start += part.shape[3]
        self._lengths.append(length)
        self._ends.append(length + room)
        self._following.append(following)

    def of(self, row: int) -> torch.Tensor:
        """A row's states (layers, 2, heads, tokens, head size), as a view."""
        return self._states[:, :, row, :, : self._lengths[row]]

    def remove(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        last = len(self) - 1
        if row != last:
            length = self._lengths[last]
            self._states[:, :, row, :, :length] = self._states[:, :, last, :, :length]
            self._lengths[row], self._following[row] = length, self._following[last]
            self._ends[row] = self._ends[last]
        self._lengths.pop()
        self._ends.pop()
        self._following.pop()

    def step(self, tokens: list[int]) -> torch.Tensor:
        """Run one token of every row through the network; returns the last hidden states (rows, hidden size)."""
        device, rows = self._states.device, len(self)
        lengths = torch.tensor(self._lengths, device=device)
        longest = max(self._lengths)
        mask = (torch.arange(longest + 1, device=device)[None] <= lengths[:, None]).long()
        following = torch.tensor(self._following, device=device)
        layers = [_DecodeLayer(layer[0, :rows], layer[1, :rows], lengths, longest) for layer in self._states]
        out = self._network.model.language_model(
            inputs_embeds=self._network.get_input_embeddings()(torch.tensor(tokens, device=device)[:, None]),
            attention_mask=mask,
            position_ids=following[None, :, None].expand(3, -1, 1),
            use_cache=True,
            **{CACHE: Cache(layers=layers)},
        )
        self._lengths = [length + 1 for length in self._lengths]
        self._following = [place + 1 for place in self._following]
        hidden: torch.Tensor = out.last_hidden_state[:, -1]
        return hidden

    def _grow(self, rows: int, tokens: int) -> None:
        have, wide = self._states.shape[2], self._states.shape[4]
        if rows <= have and tokens <= wide:
            return
        self._move(have if rows <= have else max(rows, 2 * have), max(tokens, wide))

    def _move(self, rows: int, tokens: int) -> None:
        """Copy the rows into a buffer of another size."""
        moved, count = empty(self._network, rows, -(-tokens // BLOCK) * BLOCK), len(self)
        if count:
            longest = max(self._lengths)
            moved[:, :, :count, :, :longest] = self._states[:, :, :count, :, :longest]
        self._states = moved


def empty(network: Any, rows: int, tokens: int) -> torch.Tensor:
    """A buffer for states, zeros: (layers, 2, rows, heads, tokens, head size)."""
    config = network.config.text_config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (config.num_hidden_layers, 2, rows, config.num_key_value_heads, tokens, head)
    return torch.zeros(shape, dtype=network.dtype, device=network.device)


class _DecodeLayer(DynamicLayer):
    """One layer of the rows during decoding: every row gets one new token behind its others."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor, longest: int) -> None:
        super().__init__()
        self._buffers, self._lengths = (keys, values), lengths
        # as long as the longest row, so that the network places the new token behind all others; the mask hides the rest
        self.keys, self.values = keys[:, :, :longest], values[:, :, :longest]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one new token of every row; returns all keys and values."""
        keys, values = self._buffers
        rows, end = torch.arange(len(keys), device=keys.device), self.keys.shape[-2] + 1
        keys[rows, :, self._lengths] = key_states[:, :, 0]
        values[rows, :, self._lengths] = value_states[:, :, 0]
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values
