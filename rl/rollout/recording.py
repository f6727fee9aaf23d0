"""From the final state of a graph to the parts of a trajectory: tokens, steps and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from lensgraph.agent.chat.tool_calls import as_text
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.state import AgentState
from lensgraph.rl.rollout import length_budget
from lensgraph.rl.rollout.trajectory import Said, TrajectoryStep


def has_ids(messages: Sequence[BaseMessage], policy: BaseChatModel) -> bool:
    """Whether the policy spoke, and reported the ids of all its turns, each with its log-probability.

    A turn whose ids are fewer than its usage counts, or than its log-probabilities, would shift the rest of the row."""
    said = _turns(messages)
    known = all(_adds_up(message) for message in said)
    return bool(said) and known and getattr(policy, "renderer", None) is not None


def tokens_of(
    messages: Sequence[BaseMessage],
    policy: BaseChatModel,
    max_tokens: int | None = None,
    tools: Sequence[dict[str, Any]] = (),
) -> tuple[Rendered, list[float], list[tuple[int, int]]]:
    """The tokens of a finished dialogue, the log-probabilities of the sampled ones, and the borders of every
    turn.

    The row ends with its last sampled token; with `max_tokens`, after the last turn that fits. `tools` are those
    that the policy was offered. All three are empty without all ids (`has_ids`).
    """
    if not has_ids(messages, policy):
        return Rendered(), [], []
    renderer = policy.renderer  # type: ignore[attr-defined]
    last = max(n for n, message in enumerate(messages) if isinstance(message, AIMessage))
    rendered = renderer.render(messages[: last + 1], generate=False, tools=tools)
    logprobs = [0.0] * len(rendered.ids)
    spans: list[tuple[int, int]] = []
    place = 0
    for message in _turns(messages):
        start = rendered.mask.index(1, place)
        sampled = message.response_metadata["logprobs"]
        place = start + len(sampled)
        logprobs[start:place] = sampled
        spans.append((start, place))
    if max_tokens is not None and spans and spans[-1][1] > max_tokens:
        rendered, spans = length_budget.cut(rendered, spans, max_tokens, renderer)
    end = spans[-1][1] if spans else 0
    return Rendered(rendered.ids[:end], rendered.mask[:end], rendered.pixels), logprobs[:end], spans


def steps_of(final: Mapping[str, Any] | AgentState, spans: Sequence[tuple[int, int]]) -> tuple[TrajectoryStep, ...]:
    """The steps of a finished graph as a trajectory keeps them: each with the next node and the borders of
    its tokens."""
    records = list(final["steps"])
    nodes = [record["node"] for record in records]
    remaining = iter(spans)
    steps = []
    for record, after in zip(records, [*nodes[1:], None], strict=True):
        spoke = "action" in record
        steps.append(
            TrajectoryStep(
                node=record["node"],
                edge=after if after is not None else ("answer" if record["node"] != "answer" else None),
                turn=record["turn"],
                seconds=record["seconds"],
                price=record["price"],
                text=record.get("text", ""),
                action=record.get("action"),
                actions=tuple(record.get("actions", ())),
                query=record.get("query"),
                hits=tuple(dict(hit) for hit in record["hits"]) if "hits" in record else None,
                crop=dict(record["crop"]) if record.get("crop") else None,
                error=record.get("error"),
                left_out=tuple(record.get("left_out", ())),
                cut_off=record.get("cut_off", 0),
                tokens=next(remaining, None) if spoke else None,
            )
        )
    return tuple(steps)


def said_of(message: BaseMessage) -> Said:
    """A message of the dialogue as a trajectory keeps it."""
    if isinstance(message, AIMessage):
        return Said("assistant", ({"type": "text", "text": as_text(message)},))
    blocks = [message.content] if isinstance(message.content, str) else message.content
    return Said("tool" if isinstance(message, ToolMessage) else "user", tuple(_block(block) for block in blocks))


def _block(block: str | dict[str, Any]) -> dict[str, str]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") == "image":
        return {"type": "image", "id": str(block["id"])}
    return {"type": "text", "text": str(block.get("text", ""))}


def _adds_up(message: AIMessage) -> bool:
    ids, counted = message.response_metadata.get("token_ids"), message.usage_metadata
    if ids is None or len(ids) != len(message.response_metadata.get("logprobs", ())):
        return False
    return counted is None or counted["output_tokens"] == len(ids)


def _turns(messages: Sequence[BaseMessage]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]
