"""The pocket policy without torch and transformers: imported and loaded in the time that a person does not notice.

It runs any small Qwen2.5-VL checkpoint folder on a CPU, renders with the one `Renderer` and says what
`TransformersPolicy` says (tested). Between the turns of a dialogue the keys and values are kept, so a later turn only
reads what is new. Not covered: batches (`policy.kind=transformers` samples concurrent questions together) and GPUs; several
cores share the products of wide matrices, and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import AliasChoices, Field, PrivateAttr

from agent.pocket import checkpoint
from agent.policy import pieces
from agent.policy.light_processor import LightProcessor
from agent.policy.qwen_light import Memory, Network
from agent.policy.render import Rendered, Renderer
from agent.policy.sampled import Sampled, as_result, last_chunk, stopped, text_of
from tools.threads import one_thread

SMALL = 1024
"""Up to this width of the decoder numpy multiplies on one thread; see `tools.threads`."""


class LightPolicy(BaseChatModel):
    """A small Qwen2.5-VL policy on a CPU."""

    model: str = "pocket"
    """`pocket`, or a checkpoint folder of the Qwen2.5-VL family."""
    max_new_tokens: int = Field(default=160, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn; a longer one is cut and counts as malformed."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 decodes greedily."""
    stop: list[str] = []
    """Where a turn shall end, besides what the caller names. A closing tag stays in the turn; other texts are cut off."""
    seed: int | None = None
    """Of the sampling; None draws another one every time."""

    _network: Network | None = PrivateAttr(default=None)
    _renderer: Renderer | None = PrivateAttr(default=None)
    _memory: Memory = PrivateAttr(default_factory=Memory)
    _random: Any = PrivateAttr(default=None)  # naming its type here would import numpy.random for greedy runs, too
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    @property
    def _llm_type(self) -> str:
        return "lensgraph-light"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens}

    @property
    def renderer(self) -> Renderer:
        """Dialogue to tokens, as this checkpoint wants it. Loads the tokenizer on first use."""
        with self._lock:
            if self._renderer is None:
                self._renderer = Renderer(LightProcessor(_folder(self.model)))
            return self._renderer

    @property
    def network(self) -> Network:
        """The network. Loads the weights on first use."""
        with self._lock:
            if self._network is None:
                self._network = Network(_folder(self.model))
            return self._network

    def load(self) -> LightPolicy:
        """Load everything now rather than at the first question."""
        _ = self.network, self.renderer
        return self

    def sample(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] = lambda turn: None
    ) -> Sampled:
        """Sample one turn; what this policy read before of the same dialogue is not read again. `tell` is called with the
        turn so far after every token.

        Raises:
            ValueError: placeholders and pictures do not match, or the dialogue is longer than the context.
        """
        with self._lock, one_thread(when=self.network.shape.hidden <= SMALL):
            network, renderer, memory = self.network, self.renderer, self._memory
            forbidden = renderer.picture_tokens()
            turn = Sampled([], [])
            position = network.next_position(rendered.ids, rendered.pixels)
            logits = network.read(memory, rendered.ids, rendered.pixels)
            while True:
                logprobs = _log_softmax(logits / (self.temperature or 1.0))
                allowed = logprobs.copy()
                allowed[forbidden] = -np.inf
                token = self._pick(allowed)
                turn.ids.append(token)
                turn.logprobs.append(float(logprobs[token]))
                tell(turn)
                if token == renderer.eos or len(turn.ids) == self.max_new_tokens:
                    return turn
                if stopped(renderer.tokenizer, turn.ids, stops):
                    return turn
                logits = network.step(memory, token, position)
                position += 1

    def _pick(self, logprobs: np.ndarray) -> int:
        if self.temperature == 0:
            return int(logprobs.argmax())
        if self._random is None:
            self._random = np.random.default_rng(self.seed)
        chances = np.exp(logprobs.astype(np.float64))
        return int(self._random.choice(len(chances), p=chances / chances.sum()))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        rendered = self.renderer.render(messages)
        return as_result(self.model, self.renderer, rendered, self.sample(rendered, stops), stops)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await asyncio.to_thread(self._generate, messages, stop)

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
        """Work that samples a turn and emits its text as it comes: a token's bytes may be half a character, and a text
        that looks like the beginning of a stop string may have to be cut off, so those wait."""
        stops = [*self.stop, *(stop or [])]

        def work(emit: Callable[[ChatGenerationChunk], None]) -> None:
            renderer, sent = self.renderer, ""
            rendered = renderer.render(messages)

            def tell(turn: Sampled) -> None:
                nonlocal sent
                text = _settled(text_of(renderer, turn, stops), stops)
                if len(text) > len(sent) and text.startswith(sent):
                    emit(ChatGenerationChunk(message=AIMessageChunk(content=text[len(sent) :])))
                    sent = text

            turn = self.sample(rendered, stops, tell)
            rest = text_of(renderer, turn, stops)[len(sent) :]
            emit(last_chunk(self.model, renderer, rendered, turn, rest, stops))

        return work


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    below = logits - logits.max()
    below -= np.log(np.exp(below).sum())
    return below


def _settled(text: str, stops: Sequence[str]) -> str:
    """The part of a growing text that can no longer change."""
    text = text.rstrip("\ufffd")
    longest = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - longest]


def _folder(model: str) -> Path:
    folder = Path(checkpoint(model))
    if not folder.is_dir():
        raise FileNotFoundError(f"{model}: no such folder; policy.kind=transformers also takes the names of a hub")
    return folder
