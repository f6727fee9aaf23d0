"""One run of a graph for a client that waits: each node is reported as it begins, and a client that cancels stops all of it.

Invariant: when `to_its_end` has been left, nothing of the run goes on: neither a node nor the call of a policy or a tool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from lensgraph.graphs.asking import finished
from lensgraph.tools.safety.escape import line

if TYPE_CHECKING:
    from lensgraph.agent.context import Context
    from lensgraph.graphs.table import Graph

T = TypeVar("T")
Tell = Callable[[int, str], Awaitable[None]]
"""Gets the number of nodes begun so far, and what the new one does."""
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
    begun = turn = 0
    running: Any = graph.astream(given, config, context=context, stream_mode=["tasks", "values"])
    async with contextlib.aclosing(running) as parts:
        async for mode, part in parts:
            if mode == "values":
                state = part
            elif "input" in part:  # a node begins; at its end comes the same with its result
                begun, turn = begun + 1, turn + (part["name"] == "reason")
                await tell(begun, _doing(part["name"], turn, part["input"]))
    return dict(finished(state))


def _doing(node: str, turn: int, state: Any) -> str:
    action = state.get("action") if isinstance(state, Mapping) else None
    wanted = (action or {}).get("wanted") or action or {}
    what = line(str(wanted.get("query") or wanted.get("region") or "the whole picture"), SHOWN_CHARS)
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
