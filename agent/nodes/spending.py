"""Hold a call of a tool against the limits, by the calls that were made and by the tools' prices.

Invariant: the node that makes a call asks here first, so that nothing in the state can spend past a limit. The price of a
call is the most that its tool says (`highest_price`, with the pages that a search also reads); only a summary of a page, whose
model names no price before, is counted when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from lensgraph.agent import usage
from lensgraph.agent.actions import (
    Action,
    Answer,
    Crop,
    GiveUp,
    Malformed,
    OverLimit,
    SearchByImage,
    SearchByText,
)  # fmt: skip
from lensgraph.agent.context import Backends
from lensgraph.agent.images import Picture
from lensgraph.agent.limits import StopReason
from lensgraph.agent.state import AgentState, Step, this_question
from lensgraph.tools.registry import Kind
from lensgraph.tools.results import ToolError

MESSAGES = {
    StopReason.SEARCH_LIMIT: "no {kind} searches left; answer with what you know",
    StopReason.PRICE_LIMIT: "no money left for this; answer with what you know",
    StopReason.TURN_LIMIT: "no turns left for this; answer with what you know",
    StopReason.TOKEN_LIMIT: "no tokens left for this; answer with what you know",
    StopReason.TIME_LIMIT: "no time left for this; answer with what you know",
}
"""The policy is told this in place of a result, by the limit."""


def calls_of(action: Action, pictures: Sequence[Picture]) -> dict[Kind, int]:
    """The calls of tools that an action makes, by their kind. A region is looked for in every picture."""
    match action:
        case SearchByText():
            return {"text_search": 1}
        case SearchByImage(region=None):
            return {"image_search": 1}
        case SearchByImage():
            return {"image_search": 1, "locate": len(pictures)}
        case Crop():
            return {"locate": len(pictures)}
        case Answer() | GiveUp() | Malformed() | OverLimit():
            return {}


async def price_of(action: Action, backends: Backends, pictures: Sequence[Picture]) -> float:
    """US dollars that an action costs at most, by the prices of its tools."""
    return await price_of_calls(calls_of(action, pictures), backends)


async def refusal(
    state: AgentState, backends: Backends, kind: Literal["image", "text", "crop"], calls: Mapping[Kind, int]
) -> ToolError | None:
    """The error in place of a call that is over a limit. None: it may be made."""
    limits, steps = backends.dialect.limits, this_question(state)
    counts = usage.made(steps)
    if limits.price is not None:
        counts = replace(counts, price=counts.price + await price_of_calls(calls, backends))
    stop = limits.check_made(kind, counts)
    cut = sum(step["node"] == "crop" for step in steps)
    if "locate" in calls and cut >= (limits.calls or limits.turns):
        stop = StopReason.TURN_LIMIT  # a turn cuts one region out; where it makes several calls, `calls` has a limit
    return None if stop is None else ToolError(reason="refused", message=MESSAGES[stop].format(kind=kind))


def told(over: OverLimit) -> str:
    """The words for the policy about a call that is over a limit."""
    kind = {SearchByText: "text", SearchByImage: "image", Crop: "crop"}[type(over.wanted)]
    return MESSAGES[over.stop].format(kind=kind)


def refused_step(node: str, state: AgentState, query: str, error: ToolError) -> Step:
    """The record of a call that was not made: it holds no `hits` and no `crop`."""
    return Step(
        node=node,
        turn=usage.turn_of(state),
        seconds=0.0,
        price=0.0,
        query=query,
        error=f"{error.reason}: {error.message}",
    )


async def price_of_calls(calls: Mapping[Kind, int], backends: Backends) -> float:
    """US dollars that calls of tools cost at most, by their kind."""
    return sum([(await backends.tool(kind)).highest_price * times for kind, times in calls.items()])
