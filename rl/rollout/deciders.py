"""The nodes of a graph whose decisions can be trained, by the names that records give them."""

from __future__ import annotations

from lensgraph.graphs import table

DECIDES = "reason"
"""The name that a record gives the node in which the policy spoke, whichever node of the package's graphs it was."""


def deciders(name: str) -> tuple[str, ...]:
    """Names of deciding nodes of a graph. In a graph by import path any node may record one.

    Raises:
        ValueError: there is no such graph.
    """
    own = (
        ()
        if name in table.GRAPHS
        else tuple(sorted(set(table.find(name).get_graph().nodes) - {"__start__", "__end__"}))
    )
    return (DECIDES, *(node for node in own if node != DECIDES))
