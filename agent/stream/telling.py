"""Tell what a node did to those who stream: events to `custom`, and nothing but the answer to `messages`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent.context import Context
from lensgraph.agent.state import AgentState
from lensgraph.agent.stream import events
from lensgraph.agent.stream.live import heard

Node = TypeVar("Node", bound=Callable[..., Awaitable[Any]])


def telling(node: Node) -> Node:
    """A node that tells what it did.

    LangGraph's `messages` mode shows each message that stands in a mapping that a node returns, and looks into no list of
    pairs. So a `Command` gives its update as pairs: dialogue and question are not shown, the message that `answer` returns is.
    """

    @functools.wraps(node)
    async def told(state: AgentState, runtime: Runtime[Context]) -> Any:
        result = await node(state, runtime)
        update = result.update if isinstance(result, Command) else result
        if update and heard(runtime.stream_writer):
            for event in events.of(update, state):
                runtime.stream_writer(event)
        return replace(result, update=[*update.items()]) if update and isinstance(result, Command) else result

    return cast("Node", told)
