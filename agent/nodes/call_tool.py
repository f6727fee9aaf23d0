"""Call a tool and keep its failures apart from the graph's: the boundary to foreign code.

Invariant: no exception of a tool passes; it becomes a failed result, which is recorded in the step and told to the
policy. Only what steers LangGraph passes: `interrupt()` in a tool interrupts the graph.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, TypeVar

from lensgraph.tools.base import LensTool
from lensgraph.tools.results import LocateResult, SearchResult, ToolError
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.signals import steers

R = TypeVar("R", SearchResult, LocateResult)


async def call(tool: LensTool, arguments: dict[str, Any], failed: R) -> R:
    """Call a tool as LangChain does and return its artifact; `failed` is the result to fill in if that fails."""
    started = time.perf_counter()
    request = {"type": "tool_call", "id": uuid.uuid4().hex, "name": tool.name, "args": arguments}
    try:
        message = await tool.ainvoke(request)
        artifact = message.artifact
        if isinstance(artifact, type(failed)):
            return artifact
        error = ToolError(reason="malformed", message=f"{tool.name} returned no {type(failed).__name__}")
    except Exception as problem:
        if steers(problem):
            raise
        error = ToolError(reason="unavailable", message=f"{tool.name}: {named_line(problem, first=True)}")
    return failed.model_copy(update={"error": error, "seconds": time.perf_counter() - started})


def error_line(error: ToolError | None) -> str | None:
    """The `error` of a step: `reason: message`, or None."""
    return None if error is None else f"{error.reason}: {error.message}"
