"""Call any chat model with the ids of pictures: callbacks and tracers see ids, the model inside sees the pictures.

LangChain tells callbacks about a call above `_agenerate_with_cache`, so the bytes are filled in below it. All else is the
model's own: its name and parameters in traces, its cache, its rate limit, whether and how it streams, and its reply.

Invariants: the run of the call holds no byte of a picture; a model that calls another one inside is not traced there,
because that run would hold them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import tracing_v2_callback_var
from langsmith.run_helpers import tracing_context

from lensgraph.tools.base import wait_for

Fill = Callable[[Sequence[BaseMessage]], Coroutine[Any, Any, list[BaseMessage]]]
"""Puts the bytes of the pictures into messages that hold ids."""
FOLDERS = ("/", "~", ".")
"""Beginnings of a model's name that is the path of a folder."""
SAME = ("callbacks", "disable_streaming", "metadata", "output_version", "profile", "rate_limiter", "tags", "verbose")
"""Fields of LangChain's that the call has from the model inside."""


class ByIdPolicy(BaseChatModel):
    """A chat model that takes picture ids and calls the one inside with the pictures."""

    inner: BaseChatModel
    """The model that sees the pictures."""
    fill: Fill
    """Puts the pictures in."""

    @classmethod
    def around(cls, inner: BaseChatModel, fill: Fill) -> ByIdPolicy:
        """The model as others see it."""
        return cls(inner=inner, fill=fill, **{name: getattr(inner, name) for name in SAME})

    @property
    def run_name(self) -> str:
        """`chat MODEL`, as OpenTelemetry names a model's call; a folder goes by its last name."""
        model = self._get_ls_params().get("ls_model_name") or self._llm_type
        return f"chat {Path(model).name if model.startswith(FOLDERS) else model}"

    # --- the call

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        filled = await self.fill(messages)
        with _untraced():
            result = await self.inner._agenerate_with_cache(filled, stop=stop, run_manager=run_manager, **kwargs)
        price = result.generations[0].message.response_metadata.get("price") if result.generations else None
        if run_manager is not None and price is not None:
            run_manager.metadata["price"] = price  # the run's own: tracers read it again as the run ends
        return result

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        pieces = self.inner._astream(await self.fill(messages), stop=stop, run_manager=run_manager, **kwargs)
        try:
            while True:
                with _untraced():  # not around the yield: the reader is traced
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
        finally:
            if aclose := getattr(pieces, "aclose", None):
                await aclose()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        filled = wait_for(self.fill(messages))
        with _untraced():
            return self.inner._generate_with_cache(filled, stop=stop, run_manager=run_manager, **kwargs)

    # --- the model inside, as LangChain asks for it

    def _should_stream(self, **kwargs: Any) -> bool:
        return self.inner._should_stream(**kwargs)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return self.inner._combine_llm_outputs(llm_outputs)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self.inner._get_invocation_params(stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop, **kwargs)

    @property
    def _serialized(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner._serialized

    @property
    def _identifying_params(self) -> Any:
        return self.inner._identifying_params

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """No run that begins in here is told to the callbacks and tracers around it."""
    around = var_child_runnable_config.get()
    config = var_child_runnable_config.set({**around, "callbacks": None} if around else None)
    tracer = tracing_v2_callback_var.set(None)
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        tracing_v2_callback_var.reset(tracer)
        var_child_runnable_config.reset(config)
