"""The pocket policy without torch and transformers, for a first answer within seconds of a small install.

It runs any small Qwen2.5-VL checkpoint folder on a CPU, renders with the one `Renderer` and samples the same turns as
`TransformersPolicy` (tested). Keys and values are kept between the turns of a dialogue, so a later turn only reads its new
tokens. Not covered: batches (`policy.kind=transformers` samples concurrent questions together) and GPUs; several cores share
the products of wide matrices, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.in_process import InProcessPolicy, Tell
from lensgraph.agent.policy.light.numpy_qwen import KVCache, LightNetwork
from lensgraph.agent.policy.light.processor import LightProcessor
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.policy.stops import stopped
from lensgraph.tools.runtime.threads import one_thread

SMALL = 1024
"""Hidden size up to which numpy multiplies on one thread; see `lensgraph.tools.runtime.threads`."""


class LightPolicy(InProcessPolicy):
    """A small Qwen2.5-VL policy on a CPU."""

    about_pictures_only: ClassVar[bool] = True
    """Trained on questions about pictures only: a question without one is not put to it, see `agent/nodes/reason.py`."""
    seed: int | None = None
    """Seed of the sampling; None draws another one every time."""

    _network: LightNetwork | None = PrivateAttr(default=None)
    _cache: KVCache = PrivateAttr(default_factory=KVCache)
    _random: Any = PrivateAttr(default=None)  # naming its type here would import numpy.random for greedy runs, too

    @property
    def _llm_type(self) -> str:
        return "lensgraph-light"

    def make_renderer(self) -> Renderer:
        """Load the tokenizer."""
        return Renderer(LightProcessor(_folder(self.model)))

    @property
    def network(self) -> LightNetwork:
        """The network. Loads the weights on first use."""
        with self._lock:
            if self._network is None:
                self._network = LightNetwork(_folder(self.model))
            return self._network

    def turn(self, rendered: Rendered, stops: Sequence[str] = (), tell: Tell | None = None) -> Sampled:
        """Sample one turn; the part of the dialogue that was read before is not read again. `tell` is called with the turn
        so far after every token.

        Raises:
            ValueError: placeholders and pictures do not match, or the dialogue is longer than the context.
        """
        with self._lock, one_thread(when=self.network.shape.hidden <= SMALL):
            network, renderer, cache = self.network, self.renderer, self._cache
            forbidden = renderer.picture_tokens()
            turn = Sampled([], [])
            position = network.next_position(rendered.ids, rendered.pixels)
            logits = network.read(cache, rendered.ids, rendered.pixels)
            while True:
                logprobs = _log_softmax(logits / (self.temperature or 1.0))
                allowed = logprobs.copy()
                allowed[forbidden] = -np.inf
                token = self._pick(allowed)
                turn.ids.append(token)
                turn.logprobs.append(float(logprobs[token]))
                if tell is not None:
                    tell(turn)
                if token == renderer.eos or len(turn.ids) == self.max_new_tokens:
                    return turn
                if stopped(renderer.tokenizer, turn.ids, stops):
                    return turn
                logits = network.step(cache, token, position)
                position += 1

    def _pick(self, logprobs: np.ndarray) -> int:
        if self.temperature == 0:
            return int(logprobs.argmax())
        if self._random is None:
            self._random = np.random.default_rng(self.seed)
        chances = np.exp(logprobs.astype(np.float64))
        return int(self._random.choice(len(chances), p=chances / chances.sum()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    below = logits - logits.max()
    below -= np.log(np.exp(below).sum())
    return below


def _folder(model: str) -> Path:
    folder = Path(checkpoint(model))
    if not folder.is_dir():
        raise FileNotFoundError(f"{model}: no such folder; policy.kind=transformers also takes the names of a hub")
    return folder
