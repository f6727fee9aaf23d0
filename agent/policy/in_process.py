"""LangChain's chat model interface for policies that sample in this process: invoked or streamed, synchronously or not.

A subclass renders a dialogue and samples one turn. Every turn carries the ids that were sampled.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Self

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import AliasChoices, Field, PrivateAttr

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.policy import pieces
from lensgraph.agent.policy.model_types import AsyncManager, Manager, Messages, Stop
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import GrowingText, Sampled, as_result, last_chunk, text_of

Tell = Callable[[Sampled], None]
"""Called with the turn so far after every token."""


class InProcessPolicy(BaseChatModel):
    """Base of the policies that sample in this process and keep the sampled ids."""

    model: str = "pocket"
    """`pocket`, or a checkpoint of a family that the policy knows."""
    max_new_tokens: int = Field(default=160, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn; a longer one is cut and counts as malformed."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 decodes greedily."""
    stop: list[str] = []
    """Stop strings of every turn, besides the caller's. A closing tag stays in the turn; other texts are cut off."""

    _renderer: Renderer | None = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    @abstractmethod
    def make_renderer(self) -> Renderer:
        """Load the tokenizer and whatever else turns dialogues into this checkpoint's tokens."""

    @property
    def renderer(self) -> Renderer:
        """Turns dialogues into this checkpoint's tokens. Made on first use."""
        if self._renderer is None:  # once it is there nobody waits for a turn, which holds the lock
            with self._lock:
                if self._renderer is None:
                    self._renderer = self.make_renderer()
        return self._renderer

    @property
    @abstractmethod
    def network(self) -> Any:
        """The network. Loads the weights on first use."""

    def load(self) -> Self:
        """Load everything now rather than at the first question."""
        _ = self.network, self.renderer
        return self

    @abstractmethod
    def turn(self, rendered: Rendered, stops: Sequence[str], tell: Tell | None = None) -> Sampled:
        """Sample one turn; `tell` gets the turn so far after every token, maybe in another thread."""

    async def aturn(self, rendered: Rendered, stops: Sequence[str]) -> Sampled:
        """`turn`, for an event loop. A caller that is cancelled stops the sampling at its next token."""

        def work(emit: Tell) -> None:
            emit(self.turn(rendered, stops, emit))

        said = Sampled([], [])
        async for said in pieces.astream(work):
            pass
        return said

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens}

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The policy with tools that its chat template offers it, in every form that LangChain takes.

        Raises:
            ValueError: the chat template offers none, or in a form whose calls are not read here; or a tool is demanded.
        """
        offered = tool_calls.offered(tools, tool_choice, self.renderer.offer)
        return self.bind(tools=offered, **kwargs)

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        stops, tools = [*self.stop, *(stop or [])], kwargs.get("tools") or []
        rendered = self.renderer.render(messages, tools=tools)
        turn = self.turn(rendered, stops)
        return as_result(self.model, self.renderer, rendered, turn, stops, tools=bool(tools))

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        stops, tools = [*self.stop, *(stop or [])], kwargs.get("tools") or []
        rendered = await asyncio.to_thread(lambda: self.renderer.render(messages, tools=tools))
        turn = await self.aturn(rendered, stops)
        return as_result(self.model, self.renderer, rendered, turn, stops, tools=bool(tools))

    def _stream(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if kwargs.get("tools"):
            yield _whole(self._generate(messages, stop, **kwargs))
            return
        for chunk in pieces.stream(self._telling(messages, stop)):
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if kwargs.get("tools"):
            yield _whole(await self._agenerate(messages, stop, **kwargs))
            return
        async for chunk in pieces.astream(self._telling(messages, stop)):
            if run_manager:
                await run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
            yield chunk

    def _telling(self, messages: list[BaseMessage], stop: list[str] | None) -> pieces.Work[ChatGenerationChunk]:
        """Work for `pieces` that samples a turn and emits its text as it comes."""
        stops = [*self.stop, *(stop or [])]

        def work(emit: Callable[[ChatGenerationChunk], None]) -> None:
            renderer = self.renderer
            growing = GrowingText[Sampled](lambda turn: text_of(renderer, turn, stops), stops)
            rendered = renderer.render(messages)

            def tell(turn: Sampled) -> None:
                if piece := growing.piece(turn):
                    emit(ChatGenerationChunk(message=AIMessageChunk(content=piece)))

            turn = self.turn(rendered, stops, tell)
            emit(last_chunk(self.model, renderer, rendered, turn, growing.rest(turn), stops))

        return work


def _whole(result: ChatResult) -> ChatGenerationChunk:
    """A turn that may call tools as a stream of one piece: half a call is none."""
    said = result.generations[0].message
    assert isinstance(said, AIMessage)
    return ChatGenerationChunk(message=tool_calls.as_chunk(said))
