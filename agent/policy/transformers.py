"""A Qwen2.5-VL policy in this process, through transformers: the pocket policy, or any checkpoint of that architecture.

A policy is a LangChain chat model. Calls that wait at the same time (concurrent graphs on one event loop) are sampled as
one batch. Every turn carries the ids that were sampled (`response_metadata["token_ids"]`), and a turn that comes back in
a dialogue is fed with those ids, so the policy sees exactly what it said.

Other vision-language models of the hub are `agent.policy.hub`. Not covered: tool calling by schema (dialects write
actions as text), batching across threads, and streaming of single tokens (a batch is sampled as a whole; a stream brings
the turn in one piece).
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import AliasChoices, Field, PrivateAttr
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from agent.pocket import checkpoint
from agent.policy.decode import CAPACITY, Decoder
from agent.policy.processor import load_processor
from agent.policy.render import Rendered, Renderer
from agent.policy.sampled import Sampled, as_result, last_chunk, text_of

BATCH_WAIT_S = 0.004  # long enough for sibling graphs to reach their policy call, short against one decoding step
QUIET, PATIENCE = 0.05, 0.3
"""A batch begins once nobody has come for this share of the last batch's seconds, or after that share of them in all."""


@dataclass
class _Waiting:
    rendered: Rendered
    future: asyncio.Future[Sampled]
    stops: list[str] = field(default_factory=list)


class TransformersPolicy(BaseChatModel):
    """A Qwen2.5-VL policy through transformers, on the best device there is."""

    model: str = "pocket"
    """`pocket`, a checkpoint folder, or a hub name of the Qwen2.5-VL family."""
    max_new_tokens: int = Field(default=160, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn; a longer one is cut and counts as malformed."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 decodes greedily."""
    stop: list[str] = []
    """Where a turn shall end, besides what the caller names. A closing tag stays in the turn; other texts are cut off."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; None takes CUDA where there is one."""
    max_batch: int = Field(default=64, ge=1)
    """Most calls sampled together."""
    reuse_bytes: int = Field(default=CAPACITY, ge=0)
    """Memory for what was computed for earlier turns, so that a next turn costs its new tokens only. 0: nothing is kept."""

    _network: Qwen2_5_VLForConditionalGeneration | None = PrivateAttr(default=None)
    _renderer: Renderer | None = PrivateAttr(default=None)
    _decoder: Decoder | None = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)
    _queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Waiting]] = PrivateAttr(
        default_factory=weakref.WeakKeyDictionary
    )
    _drains: set[asyncio.Task[None]] = PrivateAttr(default_factory=set)

    @property
    def _llm_type(self) -> str:
        return "lensgraph-transformers"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens}

    @property
    def renderer(self) -> Renderer:
        """Dialogue to tokens, as this checkpoint wants it. Loads the processor on first use."""
        with self._lock:
            if self._renderer is None:
                self._renderer = Renderer(load_processor(checkpoint(self.model)))
            return self._renderer

    @property
    def network(self) -> Qwen2_5_VLForConditionalGeneration:
        """The model, in eval mode on its device. Loads the weights on first use."""
        with self._lock:
            if self._network is None:
                path = checkpoint(self.model)
                device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
                dtype = torch.float32 if device == "cpu" else torch.bfloat16
                network = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=dtype)
                self._network = network.to(device).eval()
            return self._network

    def attach(self, network: Qwen2_5_VLForConditionalGeneration, renderer: Renderer) -> TransformersPolicy:
        """Use a model that is already in memory (a model in training, say) instead of loading one."""
        self._network, self._renderer, self._decoder = network, renderer, None
        return self

    def load(self) -> TransformersPolicy:
        """Load everything now rather than at the first question."""
        _ = self.renderer, self.network
        return self

    def sample(self, batch: Sequence[Rendered], stops: Sequence[Sequence[str]] = ()) -> list[Sampled]:
        """Sample one turn for every dialogue of `batch`, together; `stops` are stop strings row by row.

        Raises:
            ValueError: a dialogue with pictures and one whose placeholders do not match its pictures' grids.
        """
        with self._lock:
            if self._decoder is None:
                self._decoder = Decoder(self.network, self.renderer, self.reuse_bytes)
            return self._decoder.sample(
                batch, temperature=self.temperature, max_new_tokens=self.max_new_tokens, stops=stops
            )

    def _sample(self, batch: list[Rendered], stops: list[list[str]]) -> list[Sampled]:
        return self.sample(batch, stops) if any(stops) else self.sample(batch)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        rendered = self.renderer.render(messages)
        return as_result(self.model, self.renderer, rendered, self._sample([rendered], [stops])[0], stops)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        rendered, turn = await self._queued(messages, stops)
        return as_result(self.model, self.renderer, rendered, turn, stops)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        stops = [*self.stop, *(stop or [])]
        rendered = self.renderer.render(messages)
        turn = self._sample([rendered], [stops])[0]
        yield last_chunk(self.model, self.renderer, rendered, turn, text_of(self.renderer, turn, stops), stops)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stops = [*self.stop, *(stop or [])]
        rendered, turn = await self._queued(messages, stops)
        yield last_chunk(self.model, self.renderer, rendered, turn, text_of(self.renderer, turn, stops), stops)

    async def _queued(self, messages: list[BaseMessage], stops: list[str]) -> tuple[Rendered, Sampled]:
        """Wait for a turn together with whoever else waits."""
        rendered = await asyncio.to_thread(lambda: self.renderer.render(messages))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(rendered, loop.create_future(), stops)
        queue = self._queues.setdefault(loop, [])
        queue.append(waiting)
        if len(queue) == 1:
            drain = loop.create_task(self._drain(queue))
            # the loop itself keeps only a weak reference to a task
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
        return rendered, await waiting.future

    async def _drain(self, queue: list[_Waiting]) -> None:
        """Sample what waits, batch by batch, until nothing does. The queue keeps one entry while a batch runs."""
        last = 0.0
        while queue:
            await self._gather(queue, last)
            started = time.perf_counter()
            batch = queue[: self.max_batch]
            try:
                rows, stops = [waiting.rendered for waiting in batch], [waiting.stops for waiting in batch]
                sampled = await asyncio.to_thread(self._sample, rows, stops)
            except Exception as error:  # each caller gets it; the graph records it as the policy's failure
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)
            else:
                for waiting, row in zip(batch, sampled, strict=True):
                    if not waiting.future.done():
                        waiting.future.set_result(row)
            del queue[: len(batch)]
            last = time.perf_counter() - started

    async def _gather(self, queue: list[_Waiting], last: float) -> None:
        """Wait while siblings keep coming, but not for long against the seconds that the last batch took.

        A batch costs little more than one of its rows, so whoever comes just too late costs a whole batch.
        """
        quiet, end = max(BATCH_WAIT_S, QUIET * last), time.perf_counter() + max(BATCH_WAIT_S, PATIENCE * last)
        seen, since = len(queue), time.perf_counter()
        while len(queue) < self.max_batch:
            await asyncio.sleep(BATCH_WAIT_S)
            now = time.perf_counter()
            if len(queue) > seen:
                seen, since = len(queue), now
            if now - since >= quiet or now >= end:
                return
