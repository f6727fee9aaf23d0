"""Call any chat model with the ids of pictures: callbacks and tracers see ids, the model inside sees the pictures.

LangChain tells callbacks about a call above `_agenerate`, so the bytes are filled in there. All else is the
model's own: its name and parameters in traces, its cache, its rate limit, whether and how it streams, and its reply.

Invariants: the run of the call holds no byte of a picture; a model that calls another one inside is not traced there,
because that run would hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import PurePath
from typing import Any

from langchain_core.callbacks import BaseRunManager
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from lensgraph.agent.policy.model_types import AsyncManager, Manager, Messages, Stop
from lensgraph.tools.base import wait_for
from lensgraph.tools.runtime import spans
from lensgraph.tools.runtime.untraced import untraced
from lensgraph.tools.safety.redact import hide_data
from lensgraph.tools.safety.signals import steers

Fill = Callable[[Sequence[BaseMessage]], Coroutine[Any, Any, list[BaseMessage]]]
"""Puts the bytes of the pictures into messages that hold ids."""
SAME = ("callbacks", "metadata", "profile", "tags", "verbose")
"""Fields of LangChain's that the call has from the model inside."""


@contextmanager
def _hidden() -> Iterator[None]:
    """An exception of the model inside says nothing of the pictures that it was shown."""
    try:
        yield
    except Exception as error:
        if steers(error):
            raise
        raise hide_data(error)  # noqa: B904 (what stands behind it is hidden too)


class ByIdPolicy(BaseChatModel):
    """A chat model that takes picture ids and calls the one inside with the pictures."""

    inner: BaseChatModel
    """The model that sees the pictures."""
    fill: Fill
    """Puts the pictures in."""
    per_million: tuple[float, float] = (0.0, 0.0)
    """US dollars for a million tokens of prompt and for a million sampled ones, where a reply names no price."""

    @classmethod
    def around(cls, inner: BaseChatModel, fill: Fill, per_million: tuple[float, float] = (0.0, 0.0)) -> ByIdPolicy:
        """The model as others see it."""
        same = {name: getattr(inner, name) for name in SAME}
        return cls(inner=inner, fill=fill, per_million=per_million, cache=False, **same)

    @cached_property
    def run_name(self) -> str:
        """`chat MODEL`, as OpenTelemetry names a model's call; of a path the last part, because events know no slash."""
        model = self._get_ls_params().get("ls_model_name") or self._llm_type
        return f"chat {PurePath(model).name}"

    # --- the call

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        filled = await self.fill(messages)
        with _hidden(), untraced():
            result = await self.inner._agenerate_with_cache(filled, stop=stop, run_manager=run_manager, **kwargs)
        return self._priced(result, run_manager)

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        filled = wait_for(self.fill(messages))
        with _hidden(), untraced():
            result = self.inner._generate_with_cache(filled, stop=stop, run_manager=run_manager, **kwargs)
        return self._priced(result, run_manager)

    def _priced(self, result: ChatResult, run_manager: BaseRunManager | None) -> ChatResult:
        """The result, whose message names its price: its own, or that of its tokens."""
        result = result.model_copy(update={"generations": [self._with_price(made) for made in result.generations]})
        price = result.generations[0].message.response_metadata.get("price") if result.generations else None
        if isinstance(price, int | float):
            spans.price("chat", price, run_manager)
        return result

    def _with_price(self, made: ChatGeneration) -> ChatGeneration:
        message = made.message
        tokens = message.usage_metadata if isinstance(message, AIMessage) else None
        if not any(self.per_million) or not tokens or "price" in message.response_metadata:
            return made
        prompt, sampled = self.per_million
        dollars = (prompt * tokens["input_tokens"] + sampled * tokens["output_tokens"]) / 1_000_000
        if dict(tokens).get("total_cost") == 0:  # LangChain says so of a reply from its cache
            dollars = 0.0
        told = {**message.response_metadata, "price": dollars}
        # A copy: the one that came may lie in a cache.
        return made.model_copy(update={"message": message.model_copy(update={"response_metadata": told})})

    # --- the model inside, as LangChain asks for it

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return self.inner._combine_llm_outputs(llm_outputs)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self.inner._get_invocation_params(stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = self.inner._get_ls_params(stop, **kwargs)
        if type(self.inner)._get_ls_params is BaseChatModel._get_ls_params:
            params["ls_provider"] = self.inner._llm_type  # it was guessed from the name of the class
        return params

    @property
    def _serialized(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner._serialized

    @property
    def _identifying_params(self) -> Any:
        return self.inner._identifying_params

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type
