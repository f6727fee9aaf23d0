"""The nodes of a graph whose decisions can be trained, by their names in the records."""

from __future__ import annotations

from lensgraph.graphs import table

DECIDES = "reason"
"""Name of the policy's node in a record, for all graphs of this package."""


def deciders(name: str) -> tuple[str, ...]:
    """Names of the nodes of a graph in which the policy may decide; in a graph by import path, every node may.

    Raises:
        ValueError: there is no such graph.
    """
    own = (
        ()
        if name in table.GRAPHS
        else tuple(sorted(set(table.find(name).get_graph().nodes) - {"__start__", "__end__"}))
    )
    return (DECIDES, *(node for node in own if node != DECIDES))
