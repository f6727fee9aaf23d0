"""A policy that reads its turns from a script: for tests and examples, never a default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

Script = Sequence[str] | Callable[[list[BaseMessage]], str]


class ScriptedPolicy(BaseChatModel):
    """`ScriptedPolicy(turns=["<text_search>q</text_search>", "<answer>a</answer>"])`, or a function of the messages."""

    turns: Any = Field(default_factory=list)
    """The texts, one a call, or a function that writes the next turn from the messages."""
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    """The messages of every call, for tests to look at."""

    def __init__(self, turns: Script = (), **fields: Any) -> None:
        super().__init__(**{"turns": turns if callable(turns) else list(turns), **fields})

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
        self.seen.append(list(messages))
        if callable(self.turns):
            text = self.turns(messages)
        elif len(self.seen) <= len(self.turns):
            text = self.turns[len(self.seen) - 1]
        else:
            raise IndexError(f"the script has {len(self.turns)} turns, and turn {len(self.seen)} was asked for")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])
