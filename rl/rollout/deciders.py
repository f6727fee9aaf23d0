"""The nodes of a graph whose decisions can be trained, by their names in the records."""

from __future__ import annotations

from collections.abc import Sequence

from lensgraph.graphs import table

DECIDES = "reason"
"""Name of the policy's node in a record, for all graphs of this package."""


def check_nodes(train_nodes: Sequence[str], graph: str) -> None:
    """Refuse nodes in which the policy decides nothing.

    Raises:
        ValueError: there is such a node, or no such graph.
    """
    nodes = deciders(graph)
    if unknown := sorted(set(train_nodes) - set(nodes)):
        raise ValueError(
            f"train_nodes: in {graph} the policy decides nothing in {', '.join(unknown)}; it decides in {', '.join(nodes)}"
        )


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
