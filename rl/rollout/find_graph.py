"""The graphs that can be demonstrated, rolled out and evaluated: the package's own by name, any other by import path."""

from __future__ import annotations

import importlib
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from lensgraph.agent.context import Context
from lensgraph.graphs import direct, rag, search_agent

Graph = CompiledStateGraph[Any, Context, Any, Any]
GRAPHS: dict[str, Graph] = {
    "search_agent": search_agent.graph,
    "rag": rag.graph,
    "direct": direct.graph,
}
HELP = f"{', '.join(sorted(GRAPHS))}, or package.module:attribute of a compiled graph"
"""Of an option that takes a graph."""
DECIDES = "reason"
"""What a record calls the node in which the policy spoke, whichever node of the package's graphs it was."""


def find(name: str) -> Graph:
    """A graph by its name in `GRAPHS`, or by the import path `package.module:attribute` of a compiled one.

    Another graph must take and give the state of these (`lensgraph.agent.state`), under the same context.

    Raises:
        ValueError: there is no such graph; the message is one line with the fix.
    """
    if name in GRAPHS:
        return GRAPHS[name]
    where, colon, attribute = name.partition(":")
    if not (where and colon and attribute):
        raise ValueError(f"graph={name}: use one of {', '.join(sorted(GRAPHS))}, or package.module:attribute")
    try:
        found = getattr(importlib.import_module(where), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"graph={name}: {error}; give package.module:attribute of a compiled graph") from error
    if not isinstance(found, CompiledStateGraph):
        raise ValueError(f"graph={name} is a {type(found).__name__}, not a compiled graph; call compile() on it")
    return found


def deciders(name: str) -> tuple[str, ...]:
    """Nodes whose decisions can be trained, as records name them. Of a graph by import path, any node may record one."""
    own = () if name in GRAPHS else tuple(sorted(set(find(name).get_graph().nodes) - {"__start__", "__end__"}))
    return (DECIDES, *(node for node in own if node != DECIDES))
