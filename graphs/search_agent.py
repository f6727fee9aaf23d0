"""The search agent: at every turn the policy answers, crops, searches by image or searches by text.

Invariant: the drawn edges are exactly the legal ones, because each node's return type names its successors.

    result = await graph.ainvoke({"question": "...", "images": [Path("picture.png")]})
    result["answer"], result["sources"], result["usage"], result["stop_reason"]
"""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.types import Checkpointer

from lensgraph.agent import nodes
from lensgraph.agent.context import Context
from lensgraph.agent.state import AgentState, AskInput, AskOutput
from lensgraph.graphs import asking
from lensgraph.graphs.asking import AskGraph


def build(checkpointer: Checkpointer = None) -> AskGraph:
    """Compile the graph. A checkpointer makes threads: a follow-up question continues the dialogue."""
    wiring = StateGraph(AgentState, context_schema=Context, input_schema=AskInput, output_schema=AskOutput)
    wiring.add_node("receive", nodes.receive)  # the question and its pictures come in
    wiring.add_node("reason", nodes.reason)  # the policy decides
    wiring.add_node("crop", nodes.crop)  # a region is found and cut out
    wiring.add_node("image_search", nodes.image_search)  # the web by picture
    wiring.add_node("text_search", nodes.text_search)  # the web by words
    wiring.add_node("answer", nodes.answer)  # the answer with its sources and cost
    wiring.add_edge(START, "receive")
    wiring.add_edge("answer", END)
    return asking.compile(wiring, "search_agent", checkpointer)


graph = build()
