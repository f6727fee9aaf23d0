"""Baseline: always image search, then text search, then answer. The policy only words the query and the answer."""

from __future__ import annotations

from typing import Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Command

from lensgraph.agent import actions, nodes
from lensgraph.agent.actions import OverLimit, SearchByText
from lensgraph.agent.context import Context, backends_of
from lensgraph.agent.state import AgentState, AskInput, AskOutput
from lensgraph.agent.stream import telling
from lensgraph.graphs import asking
from lensgraph.graphs.asking import AskGraph


@telling
async def receive(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["image_search"]]:
    """Take the question in. The dialogue opens only when the image results are there."""
    update = await nodes.take_question(state, await backends_of(runtime.context))
    return Command(goto="image_search", update=update)


@telling
async def image_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["query"]]:
    """Search with the whole picture, or the part that a person chose, and open the dialogue with the results."""
    backends = await backends_of(runtime.context)
    result, thumbnails, update = await nodes.search_by_image(state, backends, runtime)
    ids, edited = nodes.unseen(state["pictures"], state, backends), nodes.edited_to(update)
    crop = update["steps"][-1].get("crop")
    ids = [*ids, crop["id"]] if edited and crop else ids
    *before, opening = backends.dialect.rag_query(nodes.told(state), ids, result, thumbnails=thumbnails)
    return Command(goto="query", update={**update, "dialogue": [*before, nodes.noted(opening, edited)]})


@telling
async def query(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["text_search"]]:
    """Let the policy word the text query."""
    update = await nodes.think(state, await backends_of(runtime.context), runtime, answers=False)
    return Command(goto="text_search", update=update)


@telling
async def text_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["conclude"]]:
    """Search with the policy's query, or with the question itself if the policy wrote none."""
    backends = await backends_of(runtime.context)
    action = actions.load_action(state["action"])
    wanted = action.wanted if isinstance(action, OverLimit) else action
    words = wanted.query if isinstance(wanted, SearchByText) else state["asked"]
    result, update = await nodes.search_by_text(state, backends, runtime, words)
    observation = nodes.noted(backends.dialect.rag_answer(result, question=state["asked"]), nodes.edited_to(update))
    told = backends.dialect.deliver(observation, state["dialogue"], last=True)
    return Command(goto="conclude", update={**update, "dialogue": told})


@telling
async def conclude(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["answer"]]:
    """Let the policy answer."""
    return Command(goto="answer", update=await nodes.think(state, await backends_of(runtime.context), runtime))


def build(checkpointer: Checkpointer = None) -> AskGraph:
    """Compile the graph."""
    wiring = StateGraph(AgentState, context_schema=Context, input_schema=AskInput, output_schema=AskOutput)
    wiring.add_node("receive", receive)
    wiring.add_node("image_search", image_search)
    wiring.add_node("query", query)
    wiring.add_node("text_search", text_search)
    wiring.add_node("conclude", conclude)
    wiring.add_node("answer", nodes.answer)
    wiring.add_edge(START, "receive")
    wiring.add_edge("answer", END)
    return asking.compile(wiring, "rag", checkpointer)


graph = build()
