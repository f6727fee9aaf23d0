"""The thought and the answer of a turn of native calls while it is being written.

Invariants: words are told once the turn is there, because a call behind them makes a thought of them; of the calls only the first
one is told, if it is `answer`, because another one is served before an answer behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

from langchain_core.messages import AIMessageChunk
from langchain_core.utils.json import parse_partial_json

from lensgraph.agent.dialects.growing import Part
from lensgraph.agent.dialects.tags import may_give_up


class GrowingCalls:
    """Reads a turn as it grows: its reasoning, where the server sends that apart, and the text of an `answer`."""

    def __init__(self) -> None:
        self._first: int | None = None
        """The index of the first call."""
        self._name, self._arguments, self._answered = "", "", ""
        self._thought, self._space = False, ""
        """True once reasoning was told; and the white space that came behind it and is not told yet."""

    def hear(self, chunk: AIMessageChunk) -> Iterator[tuple[Part, str]]:
        """The pieces of thought and answer that this piece of the turn brings."""
        if isinstance(thought := chunk.additional_kwargs.get("reasoning_content"), str) and thought:
            text = self._space + thought if self._thought else thought.lstrip()
            told = text.rstrip()
            self._space = text[len(told) :]
            if told:
                self._thought = True
                yield "thought", told
        for call in chunk.tool_call_chunks:
            index = call["index"] or 0
            self._first = index if self._first is None else self._first
            if index == self._first:
                self._name += call["name"] or ""
                self._arguments += call["args"] or ""
        if self._name == "answer" and (news := self._news()):
            self._answered += news
            yield "answer", news

    def _news(self) -> str:
        try:
            read = parse_partial_json(self._arguments or "{")
        except ValueError:
            return ""
        text = read.get("text") if isinstance(read, dict) else None
        said = text.strip() if isinstance(text, str) else ""
        if "\ud800" <= said[-1:] <= "\udbff":  # half a character in JSON's own escapes
            said = said[:-1]
        if may_give_up(said) or not said.startswith(self._answered):
            return ""
        return said[len(self._answered) :]
