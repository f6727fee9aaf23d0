"""Sample turns together, without computing anything twice.

A dialogue only grows, so the keys and values of its earlier turns stay valid when the next turn is sampled: they are kept,
and only the new tokens go through the network. Equal dialogues (the siblings of a group at their first turn) go through it
once. A turn may join the batch between any two tokens and leaves when it has ended (continuous batching).

This is our own decoding loop because transformers' `generate` samples a fixed batch until its longest row ends, and forgets
keys and values between calls. A rollout samples many short turns of dialogues that share most of their tokens, so reading
them again and waiting for the longest row would be most of its time.

Invariants (tested): a turn's log-probabilities equal those of a forward over the whole dialogue, whichever turns joined or
left meanwhile; greedy turns equal those of transformers' `generate`; kept states never exceed `capacity` bytes.
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
from lensgraph.agent.policy.qwen.kv_rows import CACHE, KVRows, empty
from lensgraph.agent.policy.qwen.prefix_cache import PrefixCache
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.policy.stops import stopped

CAPACITY = 1 << 30
"""Bytes of keys and values that are kept between turns: 1 GiB."""
SMALL = 1024
"""Hidden size up to which a network on a CPU computes on one thread; wider products are worth sharing between cores."""
PADDING = 1.25
"""Dialogues are read together if the longest has at most 1.25 times the new tokens of the shortest: padding costs time."""


@dataclass
class SamplingJob:
    """A dialogue whose next turn is being sampled."""

    rendered: Rendered
    """The dialogue before the turn."""
    stops: Sequence[str] = ()
    """Stop strings of the turn."""
    said: Sampled = field(default_factory=lambda: Sampled([], []))
    """The turn so far."""


class Decoder:
    """Samples turns from a network of the Qwen2.5-VL family. Not safe for threads: callers hold a lock."""

    def __init__(self, network: Any, renderer: Renderer, capacity: int = CAPACITY) -> None:
        # adapters sit inside the layers; only the wrapper around them is taken off
        self.network = network.get_base_model() if hasattr(network, "get_base_model") else network
        self.renderer = renderer
        self.kept = PrefixCache(capacity, renderer.image_pad, renderer.processor.merge_size)

    def sample(
        self,
        batch: Sequence[Rendered],
        *,
        temperature: float,
        max_new_tokens: int,
        stops: Sequence[Sequence[str]] = (),
    ) -> list[Sampled]:
        """Sample one turn for every dialogue; temperature 0 is greedy. `stops` are stop strings by row; empty: none."""
        jobs = [SamplingJob(row, stops[n] if stops else ()) for n, row in enumerate(batch)]
        running = RunningBatch(self, temperature=temperature, max_new_tokens=max_new_tokens)
        running.admit(jobs)
        while running.jobs:
            running.step()
        return [job.said for job in jobs]

    def read(self, batch: Sequence[Rendered]) -> list[Prefilled]:
        """Run the new tokens of every dialogue through the network (prefill); equal dialogues once.

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
        done: dict[bytes, Prefilled] = {}
        while waiting:
            most = PADDING * _fresh(*waiting[0][1:])
            together = [one for one in waiting if _fresh(*one[1:]) <= most]
            waiting = waiting[len(together) :]
            read = self._forward([row for _, row, _ in together], [past for _, _, past in together])
            done |= {key: one for (key, _, _), one in zip(together, read, strict=True)}
        return [done[key] for key in keys]

    def _forward(self, batch: Sequence[Rendered], past: Sequence[torch.Tensor | None]) -> list[Prefilled]:
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
            use_cache=True,
            **{CACHE: Cache(layers=[_PrefillLayer(layer[0], layer[1], before) for layer in states])},
        )
        logits = self.network.lm_head(out.last_hidden_state[:, -1])
        parts = [
            ([] if past[n] is None else [states[:, :, n, :, before - known[n] : before]])
            + [states[:, :, n, :, before + width - fresh[n] :]]
            for n in range(count)
        ]
        return [Prefilled(*one) for one in zip(logits, parts, following, strict=True)]


@dataclass
class Prefilled:
    """A dialogue whose tokens all went through the network."""

    logits: torch.Tensor
    """Logits of its next token, (vocabulary,)."""
    states: list[torch.Tensor]
    """Its keys and values in consecutive parts, each (layers, 2, heads, tokens, head size)."""
    following: int
    """Rotary position of its next token."""


class RunningBatch:
    """The jobs that are sampled together, one row each."""

    def __init__(self, decoder: Decoder, *, temperature: float, max_new_tokens: int) -> None:
        self.decoder, self.temperature, self.max_new_tokens = decoder, temperature, max_new_tokens
        self.jobs: list[SamplingJob] = []
        """The jobs that have not ended, in the order of the rows."""
        self._rows = KVRows(decoder.network)
        self._logits: list[torch.Tensor] = []
        self._suppressed = decoder.renderer.picture_tokens()

    def few_threads(self) -> None:
        """Let a small network on a CPU compute on the calling thread alone. Graphs and tools use the other cores, and a
        thread that waits for one of them costs many times the work: on two cores that another program used as well, 4 s of
        rollouts became up to 80."""
        network = self.decoder.network
        if network.device.type == "cpu" and network.config.text_config.hidden_size <= SMALL:
            torch.set_num_threads(1)

    @torch.inference_mode()
    def admit(self, jobs: Sequence[SamplingJob]) -> None:
        """Read the dialogues of these jobs and sample them from the next step on.

        Raises:
            ValueError: see `Decoder.read`; then none of them is admitted.
        """
        kept = self.decoder.kept
        prefilled = self.decoder.read([job.rendered for job in jobs])
        longest = max((len(job.rendered.ids) for job in jobs), default=0)
        self._rows.reserve(len(self.jobs) + len(jobs), longest + self.max_new_tokens)
        for job, one in zip(jobs, prefilled, strict=True):
            self._rows.add(one.states, one.following, self.max_new_tokens)
            self._logits.append(one.logits[None])
            self.jobs.append(job)
            # for siblings that come later; the last token is left to read, for its logits
            kept.keep(job.rendered, self._rows.of(len(self._rows) - 1)[:, :, :, :-1])

    @torch.inference_mode()
    def step(self) -> list[SamplingJob]:
        """Sample one token of every job; returns the jobs that ended with it."""
        logits = torch.cat(self._logits).float()
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), -1)
        logits[:, self._suppressed] = -torch.inf
        chosen = _drawn(logits / self.temperature) if self.temperature > 0 else logits.argmax(-1)
        scores = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
        tokens: list[int] = chosen.tolist()
        for job, token, score in zip(self.jobs, tokens, scores, strict=True):
            job.said.ids.append(token)
            job.said.logprobs.append(score)
        ended = [n for n, job in enumerate(self.jobs) if self._ends(job)]
        gone = [self.jobs[n] for n in ended]
        for n in reversed(ended):
            self._keep(n)
            self._remove(n)
            tokens[n] = tokens[-1]
            tokens.pop()
        self._logits = [self.decoder.network.lm_head(self._rows.step(tokens))] if self.jobs else []
        return gone

    def _ends(self, job: SamplingJob) -> bool:
        ids, renderer = job.said.ids, self.decoder.renderer
        if ids[-1] == renderer.eos or len(ids) == self.max_new_tokens:
            return True
        return stopped(renderer.tokenizer, ids, job.stops)

    @torch.inference_mode()
    def drop(self, job: SamplingJob) -> None:
        """Stop sampling a job."""
        n = next(n for n, one in enumerate(self.jobs) if one is job)
        logits = torch.cat(self._logits)
        logits[n] = logits[-1]
        self._logits = [logits[:-1]]
        self._remove(n)

    def _keep(self, n: int) -> None:
        """Keep the states of a dialogue and its turn, whose last token never went through the network."""
        job = self.jobs[n]
        self.decoder.kept.keep(Rendered(job.rendered.ids + job.said.ids, [], job.rendered.pixels), self._rows.of(n))

    def _remove(self, n: int) -> None:
        """Remove a row; the last row takes its place."""
        self._rows.remove(n)
        self.jobs[n] = self.jobs[-1]
        self.jobs.pop()


def _drawn(logits: torch.Tensor) -> torch.Tensor:
    """Draw one token for every row of logits (rows, vocabulary); several times quicker than `torch.multinomial`."""
    exact = logits.float() if logits.device.type == "mps" else logits.double()  # there are no doubles on MPS
    steps = torch.softmax(exact, -1).cumsum(-1)
    place = torch.rand(len(steps), 1, dtype=steps.dtype, device=steps.device) * steps[:, -1:]
    # the first step above the place: a token of probability 0 is none, and rounding may not go beyond the last one
    return torch.searchsorted(steps, place, right=True)[:, 0].clamp(max=steps.shape[1] - 1)


def _fresh(row: Rendered, past: torch.Tensor | None) -> int:
    return len(row.ids) - (0 if past is None else past.shape[3])


class _PrefillLayer(DynamicLayer):
    """Keys and values of one layer during prefill: they grow inside a buffer of the final size."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int) -> None:
        super().__init__()
        self._buffers = keys, values
        self.keys, self.values = keys[:, :, :used], values[:, :, :used]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens behind the others; returns all keys and values."""
        keys, values = self._buffers
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values
