"""A Qwen2.5-VL policy in this process, through transformers: the pocket policy, or any checkpoint of that architecture.

A policy is a LangChain chat model. Calls that wait at the same time are sampled together, token by token, whatever loop or
thread they come from; nobody waits for another's turn to end (`agent.policy.batching`). Every turn carries the ids that were
sampled (`response_metadata["token_ids"]`), and a turn that comes back in a dialogue is fed with those ids, so the policy sees
exactly what it said.

Other vision-language models of the hub are `agent.policy.hub`. Not covered: tool calling by schema (dialects write
actions as text).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import AliasChoices, Field, PrivateAttr
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from agent.pocket import checkpoint
from agent.policy import pieces
from agent.policy.batching import Joining, Worker
from agent.policy.decode import CAPACITY, Decoder, Running
from agent.policy.processor import load_processor
from agent.policy.render import Rendered, Renderer
from agent.policy.sampled import Growing, Sampled, as_result, last_chunk


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
    _worker: Worker | None = PrivateAttr(default=None)

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

    @property
    def decoder(self) -> Decoder:
        """What samples. Callers hold the policy's lock."""
        if self._decoder is None:
            self._decoder = Decoder(self.network, self.renderer, self.reuse_bytes)
        return self._decoder

    def sample(self, batch: Sequence[Rendered], stops: Sequence[Sequence[str]] = ()) -> list[Sampled]:
        """Sample one turn for every dialogue of `batch`, together; `stops` are stop strings row by row.

        Raises:
            ValueError: a dialogue with pictures and one whose placeholders do not match its pictures' grids.
        """
        with self._lock:
            return self.decoder.sample(
                batch, temperature=self.temperature, max_new_tokens=self.max_new_tokens, stops=stops
            )

    def submit(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] | None = None
    ) -> Future[Sampled]:
        """A turn, sampled together with whoever else waits. `tell` is called with the turn so far after every token, in the
        sampling thread."""
        with self._lock:
            if self._worker is None:
                self._worker = self.worker()
        return self._worker.submit(rendered, stops, tell)

    def worker(self) -> Worker:
        """What brings callers together."""
        return Joining(self._running, self._lock, self.max_batch)

    def _running(self) -> Running:
        return Running(self.decoder, temperature=self.temperature, max_new_tokens=self.max_new_tokens)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        rendered = self.renderer.render(messages)
        return as_result(self.model, self.renderer, rendered, self.submit(rendered, stops).result(), stops)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        rendered = await asyncio.to_thread(lambda: self.renderer.render(messages))
        turn = await asyncio.wrap_future(self.submit(rendered, stops))
        return as_result(self.model, self.renderer, rendered, turn, stops)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in pieces.stream(self._telling(messages, stop)):
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in pieces.astream(self._telling(messages, stop)):
            if run_manager:
                await run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
            yield chunk

    def _telling(self, messages: list[BaseMessage], stop: list[str] | None) -> pieces.Work[ChatGenerationChunk]:
        """Work that samples a turn and emits its text as it comes."""
        stops = [*self.stop, *(stop or [])]

        def work(emit: Callable[[ChatGenerationChunk], None]) -> None:
            renderer, growing = self.renderer, Growing(self.renderer, stops)
            rendered = renderer.render(messages)

            def tell(turn: Sampled) -> None:
                if piece := growing.piece(turn):
                    emit(ChatGenerationChunk(message=AIMessageChunk(content=piece)))

            turn = self.submit(rendered, stops, tell).result()
            emit(last_chunk(self.model, renderer, rendered, turn, growing.rest(turn), stops))

        return work
