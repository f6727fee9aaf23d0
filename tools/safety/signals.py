"""Exceptions that are no failures: LangGraph's own, which pass every boundary to foreign code."""

from __future__ import annotations

import sys


def steers(error: BaseException) -> bool:
    """Whether LangGraph raised this to steer the graph: an interrupt, a command to a parent, or a resume value that an
    interrupt refuses. Nobody else may catch it."""
    graph = sys.modules.get("langgraph.errors")  # not imported here: without a graph nothing of the kind is raised
    return graph is not None and (isinstance(error, graph.GraphBubbleUp) or graph.is_invalid_resume(error))
