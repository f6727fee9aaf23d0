"""One run of a graph for a client that waits: each node is reported as it begins, and a client that cancels stops all of it.

Invariant: when `to_its_end` has been left, nothing of the run goes on: neither a node nor the call of a policy or a tool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from lensgraph.agent import usage
from lensgraph.tools.safety.escape import line

if TYPE_CHECKING:
    from lensgraph.agent.context import Context
    from lensgraph.agent.state import AgentState
    from lensgraph.graphs.table import Graph

T = TypeVar("T")
Tell = Callable[[str], Awaitable[None]]
"""Gets what a node does that begins."""
SHOWN_CHARS = 120
"""Longest part of a query or a region in a message of progress."""
DOING = {
    "receive": "reading the question",
    "reason": "turn {turn}: thinking",
    "crop": "turn {turn}: looking closer at {what}",
    "image_search": "turn {turn}: searching by image: {what}",
    "text_search": "turn {turn}: searching by text: {what}",
    "answer": "writing the answer",
}
"""The message of progress as a node begins; a node of another name is told by its name."""


async def run(graph: Graph, given: Any, config: Any, context: Context, tell: Tell) -> dict[str, Any]:
    """The last state of a run. `tell` is awaited as each node begins."""
    state: dict[str, Any] = {}
    running: Any = graph.astream(given, config, context=context, stream_mode=["tasks", "values"])
    async with contextlib.aclosing(running) as parts:
        async for mode, part in parts:
            if mode == "values":
                state = part
            elif "input" in part:  # a node begins; at its end comes the same with its result
                await tell(_doing(part["name"], part["input"]))
    return state


def _doing(node: str, state: Any) -> str:
    known = state if isinstance(state, Mapping) else {}
    action = known.get("action") or {}
    wanted = action.get("wanted") or action
    what = line(str(wanted.get("query") or wanted.get("region") or "the whole picture"), SHOWN_CHARS)
    turn = usage.turn_of(cast("AgentState", known)) + (node == "reason")
    return DOING.get(node, line(node, SHOWN_CHARS)).format(turn=turn, what=what)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. A caller that is cancelled stops it, and goes on when it has ended.

    In a task of its own: anyio cancels its scope anew at every `await`, also at those with which a graph puts things away.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
