"""Sample turns together, without computing anything twice.

A dialogue only grows, so what the network computed for its earlier turns (keys and values of every layer) still holds when
the next turn is sampled: it is kept and only the new tokens go through the network. Dialogues that are equal so far (the
siblings of a group at their first turn) go through it once. A turn may join those that are being sampled between any two
tokens, and leaves when it has ended (continuous batching).

Invariants (tested): a turn's log-probabilities equal those of a forward over the whole dialogue, whoever came or left
meanwhile; greedy turns equal those of transformers' own `generate`; what is kept never exceeds `capacity` bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from lensgraph.agent.limits import context_problem
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.positions import mrope_positions
from lensgraph.agent.policy.qwen.kv_rows import Slots, empty
from lensgraph.agent.policy.qwen.prefix_cache import Kept
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled, stopped

CAPACITY = 1 << 30
"""Bytes of keys and values that are kept between turns."""
SMALL = 1024
"""Up to this width a network on a CPU computes on one thread."""
PADDING = 1.25
"""Dialogues are read together if the longest has at most this many times the new tokens of the shortest."""


@dataclass
class Turn:
    """A turn that is being sampled."""

    rendered: Rendered
    """The dialogue before it."""
    stops: Sequence[str] = ()
    """Texts at which it ends."""
    said: Sampled = field(default_factory=lambda: Sampled([], []))
    """What there is of it so far."""


class Decoder:
    """Samples turns from a network of the Qwen2.5-VL family. Not safe for threads: callers hold a lock."""

    def __init__(self, network: Any, renderer: Renderer, capacity: int = CAPACITY) -> None:
        # adapters sit inside the layers; only the wrapper around them is taken off
        self.network = network.get_base_model() if hasattr(network, "get_base_model") else network
        self.renderer = renderer
        self.kept = Kept(capacity, renderer.image_pad, renderer.processor.merge_size)

    def sample(
        self,
        batch: Sequence[Rendered],
        *,
        temperature: float,
        max_new_tokens: int,
        stops: Sequence[Sequence[str]] = (),
    ) -> list[Sampled]:
        """One turn for every dialogue; temperature 0 is greedy. `stops` are stop strings, row by row; empty: none."""
        turns = [Turn(row, stops[n] if stops else ()) for n, row in enumerate(batch)]
        running = Running(self, temperature=temperature, max_new_tokens=max_new_tokens)
        running.admit(turns)
        while running.turns:
            running.step()
        return [turn.said for turn in turns]

    def read(self, batch: Sequence[Rendered]) -> list[Read]:
        """What is new in every dialogue, through the network; equal dialogues once.

        Raises:
            ContextFull: a dialogue is longer than the network's context.
            ValueError: the placeholders of one do not match its pictures.
        """
        context = self.network.config.text_config.max_position_embeddings
        for row in batch:
            if problem := context_problem(len(row.ids), context):
                raise ContextFull(problem)
        keys = [self.kept.key(row, len(row.ids)) for row in batch]
        distinct = dict(zip(keys, batch, strict=True))
        waiting = [(key, row, self.kept.find(row)) for key, row in distinct.items()]
        waiting.sort(key=lambda one: _fresh(one[1], one[2]))
        done: dict[bytes, Read] = {}
        while waiting:
            most = PADDING * _fresh(*waiting[0][1:])
            together = [one for one in waiting if _fresh(*one[1:]) <= most]
            waiting = waiting[len(together) :]
            read = self._forward([row for _, row, _ in together], [past for _, _, past in together])
            done |= {key: one for (key, _, _), one in zip(together, read, strict=True)}
        return [done[key] for key in keys]

    def _forward(self, batch: Sequence[Rendered], past: Sequence[torch.Tensor | None]) -> list[Read]:
        device, count = self.network.device, len(batch)
        known = [0 if states is None else states.shape[3] for states in past]
        fresh = [len(row.ids) - n for row, n in zip(batch, known, strict=True)]
        before, width = max(known), max(fresh)
        ids = torch.full((count, width), self.renderer.eos, dtype=torch.long)
        mask = torch.zeros(count, before + width, dtype=torch.long)
        positions = torch.zeros(3, count, width, dtype=torch.long)
        states = empty(self.network, count, before + width)
        following: list[int] = []
        pictures: list[Pixels] = []
        for n, row in enumerate(batch):
            before_it, start, gap = past[n], known[n], width - fresh[n]
            if before_it is not None:
                states[:, :, n, :, before - start : before] = before_it
                mask[n, before - start : before] = 1
            ids[n, gap:] = torch.tensor(row.ids[start:])
            mask[n, before + gap :] = 1
            merge = self.renderer.processor.merge_size
            where = mrope_positions(row.ids, [p.grid for p in row.pixels], self.renderer.image_pad, merge)
            positions[:, n, gap:] = torch.from_numpy(where[:, start:])
            following.append(int(where[:, -1].max()) + 1)
            pictures += row.pixels[self.kept.pictures(row, start) :]
        inputs: dict[str, Any] = {"input_ids": ids.to(device)}
        if pictures:
            values = torch.cat([torch.from_numpy(p.values) for p in pictures])
            inputs["pixel_values"] = values.to(device, self.network.dtype)
            inputs["image_grid_thw"] = torch.tensor([p.grid for p in pictures], device=device)
        out = self.network.model(
            **inputs,
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=Cache(layers=[_Layer(layer[0], layer[1], before) for layer in states]),
            use_cache=True,
        )
        logits = self.network.lm_head(out.last_hidden_state[:, -1])
        parts = [
            ([] if past[n] is None else [states[:, :, n, :, before - known[n] : before]])
            + [states[:, :, n, :, before + width - fresh[n] :]]
            for n in range(count)
        ]
        return [Read(*one) for one in zip(logits, parts, following, strict=True)]


@dataclass
class Read:
    """A dialogue that went through the network."""

    logits: torch.Tensor
    """(vocabulary,) of its next token."""
    states: list[torch.Tensor]
    """(layers, 2, heads, tokens, head size), one behind the other."""
    following: int
    """The rotary position of its next token."""


class Running:
    """Turns that are being sampled together."""

    def __init__(self, decoder: Decoder, *, temperature: float, max_new_tokens: int) -> None:
        self.decoder, self.temperature, self.max_new_tokens = decoder, temperature, max_new_tokens
        self.turns: list[Turn] = []
        """Those that have not ended, in the order of the rows."""
        self._slots = Slots(decoder.network)
        self._logits: list[torch.Tensor] = []
        self._suppressed = decoder.renderer.picture_tokens()

    def few_threads(self) -> None:
        """Let a small network on a CPU compute on the calling thread alone. Graphs and tools want the other cores, and a thread
        that waits for one of them costs many times the work: on two cores with another program beside it, 4 s of rollouts
        became up to 80."""
        network = self.decoder.network
        if network.device.type == "cpu" and network.config.text_config.hidden_size <= SMALL:
            torch.set_num_threads(1)

    @torch.inference_mode()
    def admit(self, turns: Sequence[Turn]) -> None:
        """Read the dialogues of these turns and sample them from the next step on.

        Raises:
            ValueError: see `Decoder.read`; then none of them is admitted.
        """
        kept = self.decoder.kept
        read_them = self.decoder.read([turn.rendered for turn in turns])
        longest = max((len(turn.rendered.ids) for turn in turns), default=0)
        self._slots.reserve(len(self.turns) + len(turns), longest + self.max_new_tokens)
        for turn, read in zip(turns, read_them, strict=True):
            self._slots.add(read.states, read.following, self.max_new_tokens)
            self._logits.append(read.logits[None])
            self.turns.append(turn)
            # for siblings that come later; the last token is left to read, for its logits
            kept.keep(turn.rendered, self._slots.of(len(self._slots) - 1)[:, :, :, :-1])

    @torch.inference_mode()
    def step(self) -> list[Turn]:
        """One token of every turn; those that ended with it."""
        logits = torch.cat(self._logits).float()
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), -1)
        logits[:, self._suppressed] = -torch.inf
        chosen = _drawn(logits / self.temperature) if self.temperature > 0 else logits.argmax(-1)
        scores = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
        tokens: list[int] = chosen.tolist()
        for turn, token, score in zip(self.turns, tokens, scores, strict=True):
            turn.said.ids.append(token)
            turn.said.logprobs.append(score)
        ended = [n for n, turn in enumerate(self.turns) if self._ends(turn)]
        gone = [self.turns[n] for n in ended]
        for n in reversed(ended):
            self._keep(n)
            self._remove(n)
            tokens[n] = tokens[-1]
            tokens.pop()
        self._logits = [self.decoder.network.lm_head(self._slots.step(tokens))] if self.turns else []
        return gone

    def _ends(self, turn: Turn) -> bool:
        ids, renderer = turn.said.ids, self.decoder.renderer
        if ids[-1] == renderer.eos or len(ids) == self.max_new_tokens:
            return True
        return bool(turn.stops) and stopped(renderer.tokenizer, ids, turn.stops)

    @torch.inference_mode()
    def drop(self, turn: Turn) -> None:
        """Sample no more of a turn."""
        n = next(n for n, one in enumerate(self.turns) if one is turn)
        logits = torch.cat(self._logits)
        logits[n] = logits[-1]
        self._logits = [logits[:-1]]
        self._remove(n)

    def _keep(self, n: int) -> None:
        """Remember a dialogue with its turn, whose last token never went through the network."""
        turn = self.turns[n]
        self.decoder.kept.keep(Rendered(turn.rendered.ids + turn.said.ids, [], turn.rendered.pixels), self._slots.of(n))

    def _remove(self, n: int) -> None:
        """The last row takes the place of the one that leaves."""
        self._slots.remove(n)
        self.turns[n] = self.turns[-1]
        self.turns.pop()


def _drawn(logits: torch.Tensor) -> torch.Tensor:
    """One token for every row of logits (rows, vocabulary); several times quicker than `torch.multinomial`."""
    exact = logits.float() if logits.device.type == "mps" else logits.double()  # there are no doubles on MPS
    steps = torch.softmax(exact, -1).cumsum(-1)
    place = torch.rand(len(steps), 1, dtype=steps.dtype, device=steps.device) * steps[:, -1:]
    # the first step above the place: a token of probability 0 is none, and rounding may not go beyond the last one
    return torch.searchsorted(steps, place, right=True)[:, 0].clamp(max=steps.shape[1] - 1)


def _fresh(row: Rendered, past: torch.Tensor | None) -> int:
    return len(row.ids) - (0 if past is None else past.shape[3])


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
