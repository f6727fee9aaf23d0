"""The table of graphs, the only place where a graph is named: its module, its tools, and a sentence about it.

A graph of your own needs no row: an option that takes a graph takes `package.module:attribute` of a compiled one, too. Its
input, output and context are those of the graphs here (`graphs/howto/graph.md`). `langgraph.json` repeats the rows for
LangGraph Studio; a test compares the two.

Invariant: importing this module imports no graph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from lensgraph.agent.errors import UserError

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Checkpointer

    from lensgraph.agent.context import Context
    from lensgraph.tools.registry import Kind

    Graph = CompiledStateGraph[Any, Context, Any, Any]

ALL_TOOLS: tuple[Kind, ...] = ("text_search", "image_search", "locate")
"""Every kind of tool, named as the configuration and the graphs call them."""


class Row(NamedTuple):
    """A graph of this package."""

    module: str
    """Has `graph`, compiled, and `build(checkpointer)`."""
    tools: tuple[Kind, ...]
    """The tools that its nodes may call; they are built before the first question."""
    summary: str
    """One sentence for Studio and `--help`."""


GRAPHS: dict[str, Row] = {
    "search_agent": Row(
        "lensgraph.graphs.search_agent",
        ALL_TOOLS,
        "Answers a question about a picture: at every turn the policy answers, crops, searches by image or searches by text.",
    ),
    "rag": Row(
        "lensgraph.graphs.rag",
        ("text_search", "image_search"),
        "Baseline: always image search, then text search, then answer.",
    ),
    "direct": Row("lensgraph.graphs.direct", (), "Baseline: the policy answers from the picture alone."),
}


def find(name: str) -> Graph:
    """The compiled graph of a row, or of an import path `package.module:attribute`.

    Raises:
        UserError: there is no such graph; the message is one line with the fix.
    """
    from langgraph.graph.state import CompiledStateGraph  # most of a second; only who runs a graph pays it

    where, colon, attribute = name.partition(":")
    if name in GRAPHS:
        where, attribute = GRAPHS[name].module, "graph"
    elif not (where and colon and attribute):
        raise UserError(f"graph={name}: use one of {', '.join(sorted(GRAPHS))}, or package.module:attribute")
    try:
        found = getattr(import_module(where), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"graph={name}: {error}; give package.module:attribute of a compiled graph") from error
    if not isinstance(found, CompiledStateGraph):
        raise UserError(f"graph={name} is a {type(found).__name__}, not a compiled graph; call compile() on it")
    return found


def build(name: str, checkpointer: Checkpointer) -> Graph:
    """The graph with a checkpointer, so that it keeps threads.

    Raises:
        UserError: see `find`.
    """
    found = find(name)
    return (
        import_module(GRAPHS[name].module).build(checkpointer)
        if name in GRAPHS
        else found.copy({"checkpointer": checkpointer})
    )


def tools_of(name: str) -> tuple[Kind, ...]:
    """The tools that a graph may call; of a graph by import path, all."""
    return GRAPHS[name].tools if name in GRAPHS else ALL_TOOLS
