"""A sampled turn, and the chat message that it becomes: the same from every policy that samples in this process."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agent.policy.render import Rendered, Renderer


@dataclass
class Sampled:
    """One sampled turn."""

    ids: list[int]
    """Sampled token ids, with the end-of-turn token unless the length limit cut the turn."""
    logprobs: list[float]
    """Log-probability of each id under the sampling distribution before suppression."""


def as_result(model: str, renderer: Renderer, rendered: Rendered, turn: Sampled) -> ChatResult:
    """The turn as LangChain wants it; its exact ids travel in the message's metadata."""
    finished = bool(turn.ids) and turn.ids[-1] == renderer.eos
    said = turn.ids[:-1] if finished else turn.ids
    message = AIMessage(
        content=renderer.tokenizer.decode(said, skip_special_tokens=False),
        response_metadata={
            "model_name": model,
            "finish_reason": "stop" if finished else "length",
            "token_ids": turn.ids,
            "logprobs": turn.logprobs,
        },
        usage_metadata={
            "input_tokens": len(rendered.ids),
            "output_tokens": len(turn.ids),
            "total_tokens": len(rendered.ids) + len(turn.ids),
        },
    )
    return ChatResult(generations=[ChatGeneration(message=message)])
