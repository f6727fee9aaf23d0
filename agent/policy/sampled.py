"""A turn that was sampled in this process, and the chat message that it becomes: the same for every such policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.stops import cut, stopped

T = TypeVar("T")


@dataclass
class Sampled:
    """One sampled turn."""

    ids: list[int]
    """Sampled token ids, with the end-of-turn token unless the turn was cut."""
    logprobs: list[float]
    """Log-probability of each id under the sampling distribution before suppression."""


def as_result(
    model: str, renderer: Renderer, rendered: Rendered, turn: Sampled, stops: Sequence[str] = (), *, tools: bool = False
) -> ChatResult:
    """The turn as LangChain's result; its exact ids travel in the message's metadata. `tools`: the calls in it are read."""
    text, beside = text_of(renderer, turn, stops), _beside(model, renderer, rendered, turn, stops)
    message = tool_calls.as_message(text, **beside) if tools else AIMessage(content=text, **beside)
    return ChatResult(generations=[ChatGeneration(message=message)])


def last_chunk(
    model: str, renderer: Renderer, rendered: Rendered, turn: Sampled, rest: str, stops: Sequence[str] = ()
) -> ChatGenerationChunk:
    """The end of a stream: the text that was not sent yet (`rest`), and the metadata of the whole turn."""
    beside = _beside(model, renderer, rendered, turn, stops)
    return ChatGenerationChunk(message=AIMessageChunk(content=rest, chunk_position="last", **beside))


def text_of(renderer: Renderer, turn: Sampled, stops: Sequence[str] = ()) -> str:
    """The turn's text: without the end-of-turn token, and without the stop string unless it is a closing tag."""
    said = turn.ids[:-1] if turn.ids and turn.ids[-1] == renderer.eos else turn.ids
    return cut(renderer.tokenizer.decode(said, skip_special_tokens=False), stops)


def _beside(model: str, renderer: Renderer, rendered: Rendered, turn: Sampled, stops: Sequence[str]) -> dict[str, Any]:
    finished = bool(turn.ids) and turn.ids[-1] == renderer.eos
    return {
        "response_metadata": {
            "model_name": model,
            "finish_reason": "stop" if finished or stopped(renderer.tokenizer, turn.ids, stops) else "length",
            "token_ids": turn.ids,
            "logprobs": turn.logprobs,
        },
        "usage_metadata": {
            "input_tokens": len(rendered.ids),
            "output_tokens": len(turn.ids),
            "total_tokens": len(rendered.ids) + len(turn.ids),
        },
    }


class GrowingText(Generic[T]):
    """The text of a turn as it grows, piece by piece.

    Held back is what may still change: the bytes of half a character, and text that may be the beginning of a stop string,
    which would be cut off."""

    def __init__(self, text_of: Callable[[T], str], stops: Sequence[str]) -> None:
        """`text_of`: the text of a turn so far, without a stop string that is cut off."""
        self._text_of, self._stops, self._sent = text_of, stops, ""

    def piece(self, turn: T) -> str:
        """Text since the last piece that can no longer change."""
        text = self._text_of(turn).rstrip("\ufffd")
        beginnings = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        text = text[: len(text) - max(beginnings, default=0)]
        if not text.startswith(self._sent):
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece

    def rest(self, turn: T) -> str:
        """Text that was not sent yet, once the turn has ended."""
        return self._text_of(turn)[len(self._sent) :]
