"""The graphs that can be demonstrated, rolled out and evaluated, by name."""

from __future__ import annotations

from typing import Any

from langgraph.graph.state import CompiledStateGraph

from agent.context import Context
from graphs import direct, rag, search_agent

GRAPHS: dict[str, CompiledStateGraph[Any, Context, Any, Any]] = {
    "search_agent": search_agent.graph,
    "rag": rag.graph,
    "direct": direct.graph,
}
