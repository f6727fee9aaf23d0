"""A policy that reads its turns from a script: for tests and examples, never a default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.policy.model_types import AsyncManager, Manager, Messages, Stop

Turn = str | AIMessage
Script = Sequence[Turn] | Callable[[list[BaseMessage]], Turn]


class ScriptedPolicy(BaseChatModel):
    """`ScriptedPolicy(["<text_search>q</text_search>", "<answer>a</answer>"])`, or a function of the messages.

    The number of turns in the dialogue chooses the next one, so one script serves any number of runs at once. A script for
    tools writes calls as text (`lensgraph.agent.chat.tool_calls`), or gives whole messages.
    """

    turns: Any = Field(default_factory=list)
    """The turns in order, or a function that writes the next one from the messages."""
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

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The same script, whose calls are read."""
        return self.bind(tools=list(tools), **kwargs)

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        result = self._next(messages)
        said = result.generations[0].message
        if kwargs.get("tools") and isinstance(said, AIMessage) and not said.tool_calls:
            result.generations[0].message = tool_calls.as_message(str(said.text))
        return result

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)  # without the thread of the default

    def _next(self, messages: list[BaseMessage]) -> ChatResult:
        self.seen.append(list(messages))
        said = sum(isinstance(message, AIMessage) for message in messages)
        if callable(self.turns):
            turn = self.turns(messages)
        elif said < len(self.turns):
            turn = self.turns[said]
        else:
            raise IndexError(f"the script has {len(self.turns)} turns, and turn {said + 1} was asked for")
        message = AIMessage(turn) if isinstance(turn, str) else turn.model_copy()  # LangChain gives it an id
        return ChatResult(generations=[ChatGeneration(message=message)])
