"""A sampled turn, and the chat message that it becomes: the same from every policy that samples in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.server.wire import are_tags

TAIL = 32
"""Tokens in which a stop string is looked for: the ends of longer ones are found too, since decoding is by text."""


@dataclass
class Sampled:
    """One sampled turn."""

    ids: list[int]
    """Sampled token ids, with the end-of-turn token unless the length limit cut the turn."""
    logprobs: list[float]
    """Log-probability of each id under the sampling distribution before suppression."""


def as_result(
    model: str, renderer: Renderer, rendered: Rendered, turn: Sampled, stops: Sequence[str] = ()
) -> ChatResult:
    """The turn as LangChain wants it; its exact ids travel in the message's metadata."""
    message = AIMessage(content=text_of(renderer, turn, stops), **_beside(model, renderer, rendered, turn, stops))
    return ChatResult(generations=[ChatGeneration(message=message)])


def last_chunk(
    model: str, renderer: Renderer, rendered: Rendered, turn: Sampled, rest: str, stops: Sequence[str] = ()
) -> ChatGenerationChunk:
    """The end of a stream: what was not sent yet, and all that belongs to the turn as a whole."""
    beside = _beside(model, renderer, rendered, turn, stops)
    return ChatGenerationChunk(message=AIMessageChunk(content=rest, chunk_position="last", **beside))


def text_of(renderer: Renderer, turn: Sampled, stops: Sequence[str] = ()) -> str:
    """What was said: without the end-of-turn token, and without the stop string unless it is a closing tag."""
    said = turn.ids[:-1] if turn.ids and turn.ids[-1] == renderer.eos else turn.ids
    text: str = renderer.tokenizer.decode(said, skip_special_tokens=False)
    places = [text.find(stop) for stop in stops if stop in text and not are_tags([stop])]
    return text[: min(places)] if places else text


def stopped(tokenizer: Any, ids: Sequence[int], stops: Sequence[str]) -> bool:
    """Whether the newest tokens brought a stop string."""
    if not stops:
        return False
    tail = tokenizer.decode(list(ids[-TAIL:]), skip_special_tokens=False)
    return any(stop in tail for stop in stops)


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


class Growing:
    """A turn's text as it grows, piece by piece: a token's bytes may be half a character, and a text that looks like the
    beginning of a stop string may have to be cut off, so those wait."""

    def __init__(self, renderer: Renderer, stops: Sequence[str]) -> None:
        self._renderer, self._stops, self._sent = renderer, stops, ""

    def piece(self, turn: Sampled) -> str:
        """What came since the last piece and can no longer change."""
        text = text_of(self._renderer, turn, self._stops).rstrip("\ufffd")
        beginnings = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        text = text[: len(text) - max(beginnings, default=0)]
        if not text.startswith(self._sent):
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece

    def rest(self, turn: Sampled) -> str:
        """What is left to send once the turn has ended."""
        return text_of(self._renderer, turn, self._stops)[len(self._sent) :]
