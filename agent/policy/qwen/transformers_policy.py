"""A policy in this process, through transformers: the pocket policy, or a checkpoint of any family.

Calls that wait at the same time are sampled together, whatever loop or thread they come from. In a Qwen-VL network that goes
token by token, and no call waits for another's turn to end (`lensgraph.agent.policy.qwen.batching`); the others answer a
batch at a time (`lensgraph.agent.policy.families.generate`). Every turn carries the ids that were sampled
(`response_metadata["token_ids"]`), and a turn that comes back in a dialogue is fed with those ids, so the policy sees exactly
its own tokens.

Other vision-language models of the hub are `lensgraph.agent.policy.hub`. Not covered: tool calling by schema (dialects write
actions as text).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from pydantic import Field, PrivateAttr

from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.families.generate import Generator, GoesOn
from lensgraph.agent.policy.in_process import InProcessPolicy, Tell
from lensgraph.agent.policy.qwen.batching import ContinuousBatching, StaticBatching, Worker
from lensgraph.agent.policy.qwen.decode import CAPACITY, Decoder, RunningBatch
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled


class TransformersPolicy(InProcessPolicy):
    """A policy of any family through transformers, on the GPU where there is one."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; None takes CUDA where there is one."""
    max_batch: int = Field(default=64, ge=1)
    """Most calls sampled together."""
    reuse_bytes: int = Field(default=CAPACITY, ge=0)
    """Bytes of keys and values kept of earlier turns, so that the next turn costs its new tokens only. 0: nothing is kept."""

    _network: Any = PrivateAttr(default=None)
    _decoder: Decoder | None = PrivateAttr(default=None)
    _worker: Worker | None = PrivateAttr(default=None)
    _beginning: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "lensgraph-transformers"

    def make_renderer(self) -> Renderer:
        """Load the processor."""
        return Renderer(load_processor(checkpoint(self.model)))

    @property
    def network(self) -> Any:
        """The model, in eval mode on its device. Loads the weights on first use."""
        with self._lock:
            if self._network is None:
                path = checkpoint(self.model)
                device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
                dtype = torch.float32 if device == "cpu" else torch.bfloat16
                self._network = families.load_network(path, dtype).to(device).eval()
            return self._network

    def attach(self, network: Any, renderer: Renderer) -> TransformersPolicy:
        """Use a model that is already in memory (a model in training, say) instead of loading one."""
        self._network, self._renderer, self._decoder = network, renderer, None
        return self

    @property
    def decoder(self) -> Decoder:
        """The sampler. Callers hold the policy's lock."""
        if self._decoder is None:
            self._decoder = Decoder(self.network, self.renderer, self.reuse_bytes)
        return self._decoder

    def sample(
        self, batch: Sequence[Rendered], stops: Sequence[Sequence[str]] = (), goes_on: GoesOn | None = None
    ) -> list[Sampled]:
        """Sample one turn for every dialogue of `batch`, together; `stops` are stop strings row by row. `goes_on` is asked
        after every token, for families that are not Qwen-VL.

        Raises:
            ValueError: a dialogue with pictures and one whose placeholders do not match its pictures' grids.
        """
        how: dict[str, Any] = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens, "stops": stops}
        with self._lock:
            if families.of(self.network).pictures != "grids":
                return Generator(self.network, self.renderer).sample(batch, goes_on=goes_on, **how)
            return self.decoder.sample(batch, **how)

    def submit(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] | None = None
    ) -> Future[Sampled]:
        """Ask for a turn, sampled together with those of other callers. `tell` is called with the turn so far after every
        token, in the sampling thread."""
        with self._beginning:  # not the policy's lock: an event loop must not wait for the network here
            if self._worker is None:
                self._worker = self.worker()
        return self._worker.submit(rendered, stops, tell)

    def worker(self) -> Worker:
        """The batching of callers; a subclass may choose another."""
        if families.of(self.network).pictures != "grids":
            return StaticBatching(
                lambda rows, stops, told: self.sample(rows, stops, told), self.max_batch, telling=True
            )
        return ContinuousBatching(self._running, self._lock, self.max_batch)

    def _running(self) -> RunningBatch:
        return RunningBatch(self.decoder, temperature=self.temperature, max_new_tokens=self.max_new_tokens)

    def turn(self, rendered: Rendered, stops: Sequence[str], tell: Tell | None = None) -> Sampled:
        """Sample one turn, together with those of other callers."""
        future = self.submit(rendered, stops, tell)
        try:
            return future.result()
        finally:
            future.cancel()  # an interrupted caller's turn is sampled no further

    async def aturn(self, rendered: Rendered, stops: Sequence[str]) -> Sampled:
        """`turn`, without a thread that waits."""
        return await asyncio.wrap_future(self.submit(rendered, stops))
