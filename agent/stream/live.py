"""The thought and the answer of one turn, told piece by piece while the policy writes it.

Invariants: the pieces of a turn that has been read give exactly its thought and its answer; a turn that is no answer leaves
none. A stream that breaks off is asked for once more, as a whole, so that whoever streams loses no try.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.types import StreamWriter

from lensgraph.agent.dialects.growing import Growing, Part
from lensgraph.agent.dialects.growing_calls import GrowingCalls
from lensgraph.agent.stream.events import TextEvent
from lensgraph.tools.safety.signals import steers


def heard(writer: StreamWriter) -> bool:
    """Whether somebody streams `custom`. LangGraph's writer is else a function that does nothing, so it encloses nothing."""
    return getattr(writer, "__closure__", writer) is not None


class Live(BaseCallbackHandler):
    """Hears the tokens of a turn as a callback of its call."""

    run_inline = True
    """In the node's own task: LangGraph's writer reads from its context where the event belongs."""

    def __init__(
        self, writer: StreamWriter, turn: int, growing: Growing | GrowingCalls | None, *, answers: bool
    ) -> None:
        """`growing` reads the turn as it grows; None: it is told once it is there. `answers`: whether its answer would be the
        graph's."""
        self._writer, self._turn, self._growing = writer, turn, growing
        self._parts: tuple[Part, ...] = ("thought", "answer") if answers else ("thought",)
        self._sent: dict[Part, list[str]] = {"thought": [], "answer": []}
        self._length: dict[Part, int] = {"thought": 0, "answer": 0}
        self._began = False

    async def hear(
        self, policy: BaseChatModel, messages: list[BaseMessage], config: RunnableConfig, **options: Any
    ) -> AIMessage:
        """The policy's turn. It is streamed only if somebody hears of it. Raises whatever the policy raises."""
        if self._growing is not None and heard(self._writer):
            try:
                around: RunnableConfig = {"callbacks": ensure_config().get("callbacks")}
                return await policy.ainvoke(messages, merge_configs(around, config, {"callbacks": [self]}), **options)
            except Exception as problem:
                if not self._began or steers(problem):
                    raise
                self.read("", "")
        return await policy.ainvoke(messages, config, **options)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell that of a piece of the turn which can no longer change."""
        self._began = True
        message = chunk.message if isinstance(chunk, ChatGenerationChunk) else None
        if self._growing is not None and isinstance(message, AIMessageChunk):
            for part, text in self._growing.hear(message):
                self._tell(part, self._length[part], text)

    def read(self, thought: str, answer: str) -> None:
        """Tell what the turn turned out to be. An empty answer also stands for none."""
        if heard(self._writer):
            self._correct("thought", thought)
            self._correct("answer", answer)

    def _correct(self, part: Part, whole: str) -> None:
        sent = "".join(self._sent[part])
        if whole != sent:
            at = len(sent) if whole.startswith(sent) else 0
            self._tell(part, at, whole[at:])

    def _tell(self, part: Part, at: int, text: str) -> None:
        if part in self._parts:
            if not at:
                self._sent[part].clear()
            self._sent[part].append(text)
            self._length[part] = at + len(text)
            self._writer(TextEvent(type=part, turn=self._turn, at=at, text=text))

    # LangChain streams a call if one of those who hear it has these two methods.

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The output of a run, as it is."""
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        """The output of a run, as it is."""
        return output
