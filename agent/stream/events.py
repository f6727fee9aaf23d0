"""The events of an episode, as `stream_mode="custom"` gives them: dicts of plain JSON, told apart by their `type`.

    async for event in graph.astream(question, stream_mode="custom"):
        if event["type"] == "answer":
            answer = answer[: event["at"]] + event["text"]

A turn of the policy gives `thought` and `answer` in pieces, then `action`; a tool gives `crop` or `results`; each call of a
policy or a tool ends with `cost`, after `failed` if it failed; `end` comes once, last.

Invariant: the pieces of a question, applied in their order, give the thought of each turn and exactly the final answer; of
a question that ends without one they leave the empty text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from typing_extensions import TypedDict

from lensgraph.agent import usage
from lensgraph.agent.images import Picture
from lensgraph.agent.state import AgentState, ShownHit, Source, Step, Update, Usage, this_question


class TextEvent(TypedDict):
    """A piece of a thought or of the answer, as the policy writes it."""

    type: Literal["thought", "answer"]
    """The answer holds no tag of the dialect."""
    turn: int
    """The policy's turn, from 1."""
    at: int
    """The length of the text before this piece; it follows the piece before. 0 begins anew: what was sent of the turn is void,
    because the turn was cut, broke off or went on behind its answer."""
    text: str
    """The piece. Empty: there is no such text."""


class ActionEvent(TypedDict):
    """A decision of a turn: one, unless it called several tools."""

    type: Literal["action"]
    turn: int
    """The policy's turn, from 1."""
    action: dict[str, Any]
    """Its `kind`, a key of `lensgraph.agent.actions.KINDS`, and its fields, such as `query`, `region` or `text`."""


class CropEvent(TypedDict):
    """The part of a picture that was cut out."""

    type: Literal["crop"]
    turn: int
    """The turn that asked for it."""
    region: str
    """The part in the policy's words."""
    crop: Picture
    """The crop: its id, its size, its `parent` and its `box` there, in pixels."""


class ResultsEvent(TypedDict):
    """The results of a search."""

    type: Literal["results"]
    turn: int
    """The turn that asked for them."""
    node: str
    """`text_search` or `image_search`."""
    query: str
    """The query: the text, the region's expression, or `<whole picture>`."""
    hits: list[ShownHit]
    """The results as the policy was shown them."""


class FailedEvent(TypedDict):
    """The policy or a tool failed, found nothing, or was refused by a limit."""

    type: Literal["failed"]
    turn: int
    """The turn that it belongs to."""
    node: str
    """The node that called it."""
    error: str
    """`reason: message`, in one line."""


class CostEvent(TypedDict):
    """The cost of one call."""

    type: Literal["cost"]
    turn: int
    """The turn that it belongs to."""
    node: str
    """The node that made the call."""
    seconds: float
    """Seconds waited for it."""
    price: float
    """Its price in US dollars."""
    tokens_in: int
    """Prompt tokens; 0 for a tool, or if the policy reports none."""
    tokens_out: int
    """Sampled tokens, likewise."""
    total_price: float
    """US dollars of the question so far."""


class EndEvent(TypedDict):
    """The end of the question: the graph's output without its messages and steps."""

    type: Literal["end"]
    answer: str | None
    """None: there is none."""
    stop_reason: str
    """A value of `lensgraph.agent.limits.StopReason`."""
    sources: list[Source]
    """Pages the policy was shown."""
    usage: Usage
    """Turns, searches, seconds, price and tokens."""


Event = TextEvent | ActionEvent | CropEvent | ResultsEvent | FailedEvent | CostEvent | EndEvent
"""Any of them."""


def of(update: Update, state: AgentState) -> Iterator[Event]:
    """The events of what a node returned; `state` is the state before. The pieces of texts are sent while the policy writes."""
    total = usage.price_of(this_question(state)) if state.get("steps") else 0.0
    for step in update.get("steps", []):
        total += usage.price_of([step])
        yield from _of_step(step, total)
    if "stop_reason" in update:
        yield EndEvent(
            type="end",
            answer=update["answer"],
            stop_reason=update["stop_reason"],
            sources=update["sources"],
            usage=update["usage"],
        )


def _of_step(step: Step, total: float) -> Iterator[Event]:
    node, turn, error = step["node"], step["turn"], step.get("error")
    if error:
        yield FailedEvent(type="failed", turn=turn, node=node, error=error)
    elif "action" in step:
        for action in usage.actions_of(step):
            yield ActionEvent(type="action", turn=turn, action=action)
    elif "hits" in step:
        yield ResultsEvent(type="results", turn=turn, node=node, query=step["query"], hits=step["hits"])
    elif crop := step.get("crop"):
        yield CropEvent(type="crop", turn=turn, region=step["query"], crop=crop)
    yield CostEvent(
        type="cost",
        turn=turn,
        node=node,
        seconds=step["seconds"],
        price=step["price"],
        tokens_in=step.get("tokens_in", 0),
        tokens_out=step.get("tokens_out", 0),
        total_price=total,
    )
