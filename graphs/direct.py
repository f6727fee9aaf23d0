"""Baseline: the policy answers from the picture alone."""

from __future__ import annotations

from typing import Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Command

from lensgraph.agent import nodes
from lensgraph.agent.context import Context, backends_of
from lensgraph.agent.state import AgentState, AskInput, AskOutput
from lensgraph.agent.stream import telling
from lensgraph.graphs import asking
from lensgraph.graphs.asking import AskGraph


@telling
async def receive(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Take the question in and ask for an answer without searches."""
    backends = await backends_of(runtime.context)
    update = await nodes.take_question(state, backends)
    opening = backends.dialect.direct(nodes.told(update), nodes.unseen(update["pictures"], state, backends))
    return Command(goto="reason", update={**update, "dialogue": [*update["dialogue"], *opening]})


@telling
async def reason(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["answer"]]:
    """Take the policy's only turn. A search is not carried out: the episode ends with `search_limit`."""
    return Command(goto="answer", update=await nodes.think(state, await backends_of(runtime.context), runtime))


def build(checkpointer: Checkpointer = None) -> AskGraph:
    """Compile the graph."""
    wiring = StateGraph(AgentState, context_schema=Context, input_schema=AskInput, output_schema=AskOutput)
    wiring.add_node("receive", receive)
    wiring.add_node("reason", reason)
    wiring.add_node("answer", nodes.answer)
    wiring.add_edge(START, "receive")
    wiring.add_edge("answer", END)
    return asking.compile(wiring, "direct", checkpointer)


graph = build()
