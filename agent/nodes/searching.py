"""Shared by both searches: their record, fitting a result into the tokens left, and refusing a search over a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import OverLimit, SearchByText
from lensgraph.agent.context import Backends
from lensgraph.agent.dialects.base import ERROR_CHARS, text_block
from lensgraph.agent.nodes import token_budget
from lensgraph.agent.nodes.call_tool import error_line
from lensgraph.agent.nodes.spending import refused_step, told
from lensgraph.agent.nodes.token_budget import Thumbnails
from lensgraph.agent.state import AgentState, ShownHit, Step, Update, this_question
from lensgraph.tools.results import SearchResult, ToolError
from lensgraph.tools.safety.escape import line

WHOLE_PICTURE = "<whole picture>"
"""The `query` of a step that searched without a region."""


async def fitted(
    state: AgentState,
    backends: Backends,
    result: SearchResult,
    thumbnails: Thumbnails,
    observe: Callable[[SearchResult, Thumbnails], BaseMessage],
) -> tuple[SearchResult, Thumbnails, int]:
    """The part of a result that fits into the tokens left, its thumbnails, and the number of hits that lost something.

    `observe` writes the message that would tell the result to the policy; see `lensgraph.agent.nodes.token_budget`.
    """
    left = token_budget.left(this_question(state), backends.dialect.limits.tokens)
    if left is None:
        return result, thumbnails, 0

    def tokens_of(message: BaseMessage) -> int:
        return token_budget.tokens_of(message, backends.store, backends.dialect, backends.view_pixels)

    def fit() -> tuple[SearchResult, Thumbnails, int]:
        room = left - sum(map(tokens_of, token_budget.unread(state.get("dialogue") or [])))
        return token_budget.fit(
            result, thumbnails, room, lambda *found: tokens_of(observe(*found)), backends.dialect.snippet_chars
        )

    return await asyncio.to_thread(fit)


def search_step(
    node: str, state: AgentState, result: SearchResult, query: str, cut_off: int, *, edited: bool = False
) -> Step:
    """The record of a search that was made."""
    hits = [ShownHit(title=h.title, url=h.url, snippet=h.snippet, score=h.score) for h in result.hits]
    step = Step(
        node=node, turn=usage.turn_of(state), seconds=result.seconds, price=result.price, query=query, hits=hits,
        error=error_line(result.error),
    )  # fmt: skip
    if cut_off:
        step["cut_off"] = cut_off
    if edited:
        step["edited"] = True
    return step


def edited_to(update: Update) -> str | None:
    """The query of the call that a person made instead of the policy's. None: the policy's own was made."""
    step: Step = update["steps"][-1]
    return step["query"] if step.get("edited") else None


def noted(observation: HumanMessage, edited: str | None) -> HumanMessage:
    """The observation as it is, or with a remark in front that a person made this call instead of the policy's."""
    if edited is None:
        return observation
    note = f"(A person changed this to: {line(edited, ERROR_CHARS)})\n"
    if isinstance(observation.content, str):
        return HumanMessage(note + observation.content)
    return HumanMessage(content=[text_block(note), *observation.content])


def over_limit(state: AgentState) -> OverLimit | None:
    """The last action, if it is a search over a limit."""
    action = actions.load_action(state["action"])
    return action if isinstance(action, OverLimit) else None


def refuse(state: AgentState, backends: Backends, kind: Literal["image", "text"], action: OverLimit) -> Update:
    """Tell the policy that this search is over a limit. No tool runs, so the record holds no `hits`."""
    error = ToolError(reason="refused", message=told(action))
    wanted = action.wanted
    query = wanted.query if isinstance(wanted, SearchByText) else wanted.region or WHOLE_PICTURE
    step = refused_step(f"{kind}_search", state, query, error)
    return {"steps": [step], "dialogue": [backends.dialect.observe_failure(kind, error, question=state["asked"])]}
