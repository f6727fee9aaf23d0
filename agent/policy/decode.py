"""Sample a batch of turns without computing anything twice.

A dialogue only grows, so what the network computed for its earlier turns (keys and values of every layer) still holds when
the next turn is sampled: it is kept and only the new tokens go through the network. Dialogues of a batch that are equal so
far (the siblings of a group at their first turn) go through it once. Finished rows leave the batch while others go on.

Invariants (tested): a turn's log-probabilities equal those of a forward over the whole dialogue; greedy turns equal those of
transformers' own `generate`; what is kept never exceeds `capacity` bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from agent.policy.positions import mrope_positions
from agent.policy.render import Pixels, Rendered, Renderer
from agent.policy.sampled import Sampled, stopped

CAPACITY = 1 << 30
"""Bytes of keys and values that are kept between turns."""
LEAVE_AT = 0.6
"""Finished rows leave the batch when the others are at most this share of it: leaving copies what is kept."""


@dataclass
class Kept:
    """What the network computed for the beginning of a dialogue."""

    states: torch.Tensor
    """(layers, 2, heads, tokens, head size): keys and values."""

    @property
    def tokens(self) -> int:
        """How many tokens it covers."""
        return self.states.shape[3]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.states.numel() * self.states.element_size()


class Decoder:
    """Samples turns from a network of the Qwen2.5-VL family. Not safe for threads: callers hold a lock."""

    def __init__(self, network: Any, renderer: Renderer, capacity: int = CAPACITY) -> None:
        # adapters sit inside the layers; only the wrapper around them is taken off
        self.network = network.get_base_model() if hasattr(network, "get_base_model") else network
        self.renderer, self.capacity = renderer, capacity
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0
        self._suppressed = renderer.picture_tokens()

    def sample(
        self,
        batch: Sequence[Rendered],
        *,
        temperature: float,
        max_new_tokens: int,
        stops: Sequence[Sequence[str]] = (),
    ) -> list[Sampled]:
        """One turn for every dialogue; temperature 0 is greedy. `stops` are stop strings, row by row; empty: none."""
        keys = [self._key(row, len(row.ids)) for row in batch]
        distinct = list(dict.fromkeys(keys))
        with torch.inference_mode():
            logits, rows = self._read([batch[keys.index(key)] for key in distinct], max_new_tokens)
            spread = [distinct.index(key) for key in keys]
            rows.choose(spread)
            said = self._say(rows, logits[spread], temperature, max_new_tokens, stops)
            for row, turn, states in zip(batch, said, rows.ended(), strict=True):
                self._keep(row, turn, states)
        return said

    # --- what stands before the turn

    def _read(self, batch: Sequence[Rendered], room: int) -> tuple[torch.Tensor, _Rows]:
        """The new tokens of every dialogue through the network: logits of the next token, and the rows to go on with."""
        device, count = self.network.device, len(batch)
        past = [self._past(row) for row in batch]
        known = [kept.tokens if kept else 0 for kept in past]
        fresh = [len(row.ids) - n for row, n in zip(batch, known, strict=True)]
        before, width = max(known), max(fresh)
        ids = torch.full((count, width), self.renderer.eos, dtype=torch.long)
        mask = torch.zeros(count, before + width, dtype=torch.long)
        positions = torch.zeros(3, count, width, dtype=torch.long)
        following = torch.zeros(count, dtype=torch.long)
        states = self._empty(count, before + width + room)
        pictures: list[Pixels] = []
        for n, row in enumerate(batch):
            kept, start, gap = past[n], known[n], width - fresh[n]
            if kept is not None:
                states[:, :, n, :, before - start : before] = kept.states
                mask[n, before - start : before] = 1
            ids[n, gap:] = torch.tensor(row.ids[start:])
            mask[n, before + gap :] = 1
            merge = self.renderer.processor.merge_size
            where = mrope_positions(row.ids, [p.grid for p in row.pixels], self.renderer.image_pad, merge)
            positions[:, n, gap:] = torch.from_numpy(where[:, start:])
            following[n] = int(where[:, -1].max()) + 1
            pictures += row.pixels[self._pictures(row, start) :]
        rows = _Rows(self.network, states, mask.to(device), following.to(device), before)
        inputs: dict[str, Any] = {"input_ids": ids.to(device)}
        if pictures:
            values = torch.cat([torch.from_numpy(p.values) for p in pictures])
            inputs["pixel_values"] = values.to(device, self.network.dtype)
            inputs["image_grid_thw"] = torch.tensor([p.grid for p in pictures], device=device)
        out = self.network.model(
            **inputs,
            attention_mask=rows.mask,
            position_ids=positions.to(device),
            past_key_values=rows.cache,
            use_cache=True,
        )
        rows.used = before + width
        return self.network.lm_head(out.last_hidden_state[:, -1]), rows

    def _empty(self, rows: int, tokens: int) -> torch.Tensor:
        config = self.network.config.text_config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, 2, rows, config.num_key_value_heads, tokens, head)
        return torch.zeros(shape, dtype=self.network.dtype, device=self.network.device)

    def _past(self, row: Rendered) -> Kept | None:
        """What is kept of the dialogue up to its last sampled token, which itself never went through the network."""
        end = len(row.mask) - row.mask[::-1].index(1) if 1 in row.mask else 0
        key = self._key(row, end - 1) if end > 1 else None
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, row: Rendered, turn: Sampled, states: torch.Tensor) -> None:
        """Remember a dialogue with the turn that was just sampled."""
        whole = Rendered(row.ids + turn.ids, [], row.pixels)
        tokens = len(whole.ids) - 1
        # a row that ended before the batch did went on for a while: what lies behind its end is cut
        key, kept = self._key(whole, tokens), Kept(states[:, :, :, :tokens].clone())
        if kept.size > self.capacity or key in self._kept:
            return
        self._kept[key] = kept
        self._bytes += kept.size
        while self._bytes > self.capacity:
            self._bytes -= self._kept.popitem(last=False)[1].size

    def _pictures(self, row: Rendered, tokens: int) -> int:
        """How many pictures stand before token `tokens`, which lies outside of any."""
        left, merge, count = row.ids[:tokens].count(self.renderer.image_pad), self.renderer.processor.merge_size**2, 0
        for picture in row.pixels:
            left -= int(np.prod(picture.grid)) // merge
            if left < 0:
                break
            count += 1
        return count

    def _key(self, row: Rendered, tokens: int) -> bytes:
        """Of the first tokens of a dialogue and the pictures among them: equal keys, equal states."""
        digest = hashlib.sha256(np.asarray(row.ids[:tokens], dtype=np.int64).tobytes())
        for picture in row.pixels[: self._pictures(row, tokens)]:
            digest.update(picture.id.encode())
        return digest.digest()

    # --- the turn

    def _say(
        self,
        rows: _Rows,
        logits: torch.Tensor,
        temperature: float,
        max_new_tokens: int,
        stops: Sequence[Sequence[str]],
    ) -> list[Sampled]:
        said = [Sampled([], []) for _ in range(len(logits))]
        ended: set[int] = set()
        for number in range(max_new_tokens):
            logits = logits.float()
            logprobs = torch.log_softmax(logits / (temperature or 1.0), -1)
            logits[:, self._suppressed] = -torch.inf
            if temperature > 0:
                chosen = torch.multinomial(torch.softmax(logits / temperature, -1), 1)[:, 0]
            else:
                chosen = logits.argmax(-1)
            scores = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
            going = []
            for place, (token, score) in enumerate(zip(chosen.tolist(), scores, strict=True)):
                row = rows.live[place]
                turn = said[row]
                if row in ended:
                    continue
                turn.ids.append(token)
                turn.logprobs.append(score)
                if token == self.renderer.eos or (stops and stopped(self.renderer.tokenizer, turn.ids, stops[row])):
                    ended.add(row)
                else:
                    going.append(place)
            if not going or number + 1 == max_new_tokens:
                break
            if len(going) <= LEAVE_AT * len(chosen):
                rows.leave(going)
                chosen = chosen[going]
            logits = self.network.lm_head(rows.step(chosen))
        rows.leave([])
        return said


class _Rows:
    """The dialogues that are being decoded, with their states in place: nothing is copied as they grow."""

    def __init__(
        self, network: Any, states: torch.Tensor, mask: torch.Tensor, following: torch.Tensor, used: int
    ) -> None:
        self.network, self.states, self.mask, self.following, self.used = network, states, mask, following, used
        self.cache = _cache(states, used)
        self.live = list(range(len(mask)))
        self._ended: dict[int, torch.Tensor] = {}

    def choose(self, places: list[int]) -> None:
        """Go on with these rows, some of them several times."""
        if places != self.live:
            self._select(places)
        self.live = list(range(len(places)))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """One token of every row through the network: the last hidden states (rows, hidden size)."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        out = self.network.model.language_model(
            inputs_embeds=self.network.get_input_embeddings()(tokens[:, None]),
            attention_mask=self.mask,
            position_ids=self.following[None, :, None].expand(3, -1, 1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.following = self.following + 1
        self.used += 1
        hidden: torch.Tensor = out.last_hidden_state[:, -1]
        return hidden

    def leave(self, going: list[int]) -> None:
        """Go on with the rows `going` only."""
        for place in set(range(len(self.live))) - set(going):
            filled = self.mask[place].bool()
            self._ended[self.live[place]] = self.states[:, :, place, :, : self.used][:, :, :, filled]
        live = [self.live[place] for place in going]
        if going:
            self._select(going)
        self.live = live

    def ended(self) -> list[torch.Tensor]:
        """The states of every row without padding (layers, 2, heads, tokens, head size), once all have left."""
        return [self._ended[row] for row in range(len(self._ended))]

    def _select(self, places: list[int]) -> None:
        chosen = torch.tensor(places, device=self.mask.device)
        layers, two, _, heads, tokens, head = self.states.shape
        grown = self.states.new_empty(layers, two, len(places), heads, tokens, head)
        grown[..., : self.used, :] = self.states[..., : self.used, :].index_select(2, chosen)
        self.states, self.mask, self.following = grown, self.mask[chosen], self.following[chosen]
        self.cache = _cache(grown, self.used)


class _Layer(DynamicLayer):
    """Keys and values of one layer that grow inside a buffer."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int) -> None:
        super().__init__()
        self._buffers = keys, values
        self.keys, self.values = keys[:, :, :used], values[:, :, :used]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens behind the others."""
        keys, values = self._buffers
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values


def _cache(states: torch.Tensor, used: int) -> Cache:
    return Cache(layers=[_Layer(layer[0], layer[1], used) for layer in states])
