"""Sample turns with transformers' own `generate`: for every family but Qwen-VL.

A batch is sampled until its longest turn ends, and every turn reads its whole dialogue: simple, and right for any network.
Invariant (tested): a turn's log-probabilities are those of a forward over the whole dialogue, whatever is padded beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lensgraph.agent.limits import context_problem
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.families.picture_batch import picture_inputs
from lensgraph.agent.policy.families.table import of
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.policy.stops import stopped

TOGETHER = 16
"""Most dialogues of one call of `generate`."""
GoesOn = Callable[[int, Sampled], bool]
"""Told of a row's turn so far after every token; False ends it."""


class Generator:
    """Samples turns from a network of any family. Not safe for threads: callers hold a lock."""

    def __init__(self, network: Any, renderer: Renderer) -> None:
        self.network = network.get_base_model() if hasattr(network, "get_base_model") else network
        self.renderer, self.family = renderer, of(self.network)

    def sample(
        self,
        batch: Sequence[Rendered],
        *,
        temperature: float,
        max_new_tokens: int,
        stops: Sequence[Sequence[str]] = (),
        goes_on: GoesOn | None = None,
    ) -> list[Sampled]:
        """Sample one turn for every dialogue; temperature 0 is greedy. `stops` are stop strings by row; empty: none.

        Raises:
            ContextFull: a dialogue is longer than the network's context.
        """
        context = self.network.config.get_text_config().max_position_embeddings
        for row in batch:
            if problem := context_problem(len(row.ids), context):
                raise ContextFull(problem)
        turns: list[Sampled] = []
        for start in range(0, len(batch), TOGETHER):
            rows = batch[start : start + TOGETHER]
            turn = Turns(self.renderer, temperature, stops[start : start + TOGETHER], start, goes_on)
            self._generate(rows, turn, max_new_tokens)
            turns += turn.said
        return turns

    @torch.inference_mode()
    def _generate(self, rows: Sequence[Rendered], turns: Turns, max_new_tokens: int) -> None:
        width, device = max(len(row.ids) for row in rows), self.network.device
        ids = torch.full((len(rows), width), self.renderer.eos)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            ids[n, width - len(row.ids) :] = torch.tensor(row.ids)
            mask[n, width - len(row.ids) :] = 1
        turns.begin(len(rows), width)
        pictures = picture_inputs(self.family, rows, ids, self.renderer.image_pad)
        self.network.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            **on(pictures, self.network),
            generation_config=GenerationConfig(
                do_sample=turns.temperature > 0, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0,
                max_new_tokens=max_new_tokens, eos_token_id=self.renderer.eos, pad_token_id=self.renderer.eos,
            ),
            logits_processor=LogitsProcessorList([turns.scores]),
            stopping_criteria=StoppingCriteriaList([turns.ends]),
        )  # fmt: skip


def on(inputs: dict[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """Inputs on a network's device, pixels in its precision."""
    return {
        name: value.to(network.device, network.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


class Turns:
    """The turns of one call of `generate`, which calls `scores` before every token and `ends` after it."""

    def __init__(
        self,
        renderer: Renderer,
        temperature: float,
        stops: Sequence[Sequence[str]],
        first: int,
        goes_on: GoesOn | None,
    ) -> None:
        self.renderer, self.temperature, self.stops = renderer, temperature, stops
        self.first, self.goes_on = first, goes_on
        self.unsayable = renderer.picture_tokens()
        self.said: list[Sampled] = []
        self.scores, self.ends = Scores(self), Ends(self)

    def begin(self, rows: int, width: int) -> None:
        """Get ready for dialogues that are padded to `width` tokens."""
        self.said, self.done = [Sampled([], []) for _ in range(rows)], [False] * rows
        self.width = width
        self.logprobs: torch.Tensor | None = None

    def take(self, tokens: list[int]) -> list[bool]:
        """Note the token that every row was given; True for the rows that have ended."""
        assert self.logprobs is not None
        for n, token in enumerate(tokens):
            if self.done[n]:
                continue
            said = self.said[n]
            said.ids.append(token)
            said.logprobs.append(float(self.logprobs[n, token]))
            stops = self.stops[n] if self.stops else ()
            self.done[n] = token == self.renderer.eos or stopped(self.renderer.tokenizer, said.ids, stops)
            if self.goes_on is not None and not self.goes_on(self.first + n, said):
                self.done[n] = True
        return self.done


class Scores(LogitsProcessor):
    """Notes the log-probabilities of the next token, and suppresses what may not be said."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores that are sampled from."""
        scores = scores.float() / (self.turns.temperature or 1.0)
        self.turns.logprobs = torch.log_softmax(scores, -1)
        scores[:, self.turns.unsayable] = -torch.inf
        return scores


class Ends(StoppingCriteria):
    """Ends the rows that are done."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """True for every row that is done."""
        return torch.tensor(self.turns.take(input_ids[:, -1].tolist()), device=input_ids.device)
