"""Decide what becomes of the actions of a turn: carried out in their order, told to the policy at once, or the end.

Most dialects have one action a turn. A policy that calls tools may ask for several; each is held against the limits as if
those before it had been carried out. An answer ends the turn: what stands behind it is not looked at, and what stands before
it cannot end the episode in its place.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from langchain_core.messages import AIMessage, BaseMessage

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import Action, Answer, GiveUp, Malformed, OverLimit
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.context import Backends
from lensgraph.agent.limits import Spent, StopReason
from lensgraph.agent.nodes import spending
from lensgraph.agent.state import AgentState
from lensgraph.tools.results import ToolError


@dataclass
class Agenda:
    """The actions of a turn, sorted."""

    actions: list[Action]
    """All of them, held against the limits."""
    waiting: list[Action] = field(default_factory=list)
    """Those to be served, in order; one that ends the episode is the last. Empty: the policy is asked again."""
    told: list[BaseMessage] = field(default_factory=list)
    """Messages to the policy about the others."""


async def plan(turn: AIMessage, kept: AIMessage, counts: Spent, state: AgentState, backends: Backends) -> Agenda:
    """The agenda of a turn, which is `kept` in this form; `counts` are those before its first action."""
    dialect = backends.dialect
    agenda = Agenda(await _limited(turn, counts, state, backends))
    answers = [n for n, action in enumerate(agenda.actions) if isinstance(action, Answer | GiveUp)]
    calls = dict(enumerate(tool_calls.unanswered([kept])))
    for number, action in enumerate(agenda.actions[: answers[0] + 1 if answers else None]):
        error = _error(action)
        if error is not None and (answers or (dialect.tools and _can_go_on(action, counts, dialect.limits.turns))):
            agenda.told.append(dialect.refuse(calls.get(number), error, question=state["asked"]))
            continue
        agenda.waiting.append(action)
        if error is not None:
            break
    return agenda


def in_time(state: AgentState, backends: Backends) -> Agenda:
    """The rest of the last turn's agenda, when its next action is about to be served. Once the question's time is over no
    further call is made: the policy is told so, and an answer behind them counts."""
    agenda = Agenda([], [actions.load_action(record) for record in state.get("waiting") or []])
    dialect, began = backends.dialect, state["started"]
    if dialect.limits.seconds is None or time.time() - began < dialect.limits.seconds:
        return agenda
    error = ToolError(reason="refused", message=spending.MESSAGES[StopReason.TIME_LIMIT])
    while agenda.waiting and not isinstance(agenda.waiting[0], Answer | GiveUp):
        del agenda.waiting[0]
        observation = dialect.observe_failure("text", error, question=state["asked"])
        agenda.told += dialect.deliver(observation, [*state["dialogue"], *agenda.told])
    return agenda


async def _limited(turn: AIMessage, counts: Spent, state: AgentState, backends: Backends) -> list[Action]:
    found = []
    for action in backends.dialect.read_turn(turn):
        if isinstance(action, Malformed) and (why := tool_calls.cut_short(turn)):
            action = Malformed(f"{action.reason}: {why}")
        price = 0.0
        if backends.dialect.limits.price is not None:
            price = await spending.price_of(action, backends, state["pictures"])
        with_it = replace(counts, price=counts.price + price) if price else counts
        limited = backends.dialect.limited(action, with_it)
        if limited is action:
            counts = usage.counted(with_it, action)
        found.append(limited)
    return found


def _error(action: Action) -> ToolError | None:
    """The reason why an action is not carried out. None: it is, or it ends the episode as the policy wanted."""
    match action:
        case Malformed(reason):
            return ToolError(reason="bad_input", message=reason)
        case OverLimit():
            return ToolError(reason="refused", message=spending.told(action))
    return None


def _can_go_on(action: Action, counts: Spent, turns: int) -> bool:
    """Whether a policy that made a mistake, or has no search of this kind left, may do something else."""
    if isinstance(action, OverLimit):
        return action.stop is StopReason.SEARCH_LIMIT
    return counts.turns + 1 < turns
