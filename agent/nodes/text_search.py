"""The node that searches the web with words."""

from __future__ import annotations

import functools
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import SearchByText
from lensgraph.agent.approval import TextArgs, review
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.nodes.call_tool import call
from lensgraph.agent.nodes.once import once
from lensgraph.agent.nodes.searching import edited_to, fitted, noted, over_limit, refuse, search_step
from lensgraph.agent.nodes.spending import price_of_calls, refusal, refused_step
from lensgraph.agent.state import AgentState, Update
from lensgraph.agent.stream import telling
from lensgraph.tools.pages.summarise import asking
from lensgraph.tools.registry import Kind
from lensgraph.tools.results import SearchResult


@telling
async def text_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Search with the policy's query and tell it what was found."""
    backends = await backends_of(runtime.context)
    if (refused := over_limit(state)) is not None:
        return Command(goto="reason", update=refuse(state, backends, "text", refused))
    action = actions.load_action(state["action"])
    if not isinstance(action, SearchByText):
        raise TypeError(f"text_search needs a query, not {action!r}")
    result, update = await search_by_text(state, backends, runtime, action.query)
    if result.error is not None:
        observation = backends.dialect.observe_failure("text", result.error, question=state["asked"])
    else:
        observation = backends.dialect.observe_text(result, question=state["asked"])
    told = backends.dialect.deliver(noted(observation, edited_to(update)), state["dialogue"])
    return Command(goto="reason", update={**update, "dialogue": told})


async def search_by_text(
    state: AgentState, backends: Backends, runtime: Runtime[Context], query: str
) -> tuple[SearchResult, Update]:
    """Search with a query: the result as the policy is shown it, and its step. Over a limit, or where a person rejects it,
    nothing is searched."""
    calls: dict[Kind, int] = {"text_search": 1}
    if (refused := await refusal(state, backends, "text", calls)) is not None:
        result = SearchResult(kind="text", query=query, error=refused)
        return result, {"steps": [refused_step("text_search", state, query, refused)]}
    verdict = review(
        "text_search", TextArgs.model_construct(query=query), state, backends, runtime,
        description=f"Search by text: {query}", price=await price_of_calls(calls, backends),
    )  # fmt: skip
    if verdict.rejection is not None:
        result = SearchResult(kind="text", query=query, error=verdict.rejection)
        return result, {**verdict.update, "steps": [refused_step("text_search", state, query, verdict.rejection)]}
    query = verdict.args.query
    tool = await backends.tool("text_search")
    failed = SearchResult(kind="text", query=query)
    make = functools.partial(call, tool, {"query": query}, failed, usage.turn_of(state))
    with asking(state["asked"]):
        result = await once(make, failed, query, tool, state, backends.store, runtime)
    result = result.model_copy(update={"hits": result.hits[: backends.dialect.text_hits]})
    edited = query if verdict.edited else None
    result, _, cut_off = await fitted(
        state, backends, result, [],
        lambda found, _: noted(backends.dialect.observe_text(found, question=state["asked"]), edited),
    )  # fmt: skip
    step = search_step("text_search", state, result, query, cut_off, edited=verdict.edited)
    return result, {**verdict.update, "steps": [step]}
