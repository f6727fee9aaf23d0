"""A policy that reads its turns from a script: for tests and examples, never a default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

Script = Sequence[str] | Callable[[list[BaseMessage]], str]


class ScriptedPolicy(BaseChatModel):
    """`ScriptedPolicy(["<text_search>q</text_search>", "<answer>a</answer>"])`, or a function of the messages.

    The number of turns in the dialogue chooses the next one, so one script serves any number of runs at once.
    """

    turns: Any = Field(default_factory=list)
    """The texts in order, or a function that writes the next turn from the messages."""
    model: str = "script"
    """Ignored: a configured policy is given one."""
    temperature: float = 0.0
    """Ignored: a configured policy is given one."""
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    """The messages of every call, for tests to look at."""

    def __init__(self, turns: Script = (), **fields: Any) -> None:
        script: dict[str, Any] = {"turns": turns if callable(turns) else list(turns)}
        super().__init__(**script, **fields)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._next(messages)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)  # without the thread of the default

    def _next(self, messages: list[BaseMessage]) -> ChatResult:
        self.seen.append(list(messages))
        said = sum(isinstance(message, AIMessage) for message in messages)
        if callable(self.turns):
            text = self.turns(messages)
        elif said < len(self.turns):
            text = self.turns[said]
        else:
            raise IndexError(f"the script has {len(self.turns)} turns, and turn {said + 1} was asked for")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])
