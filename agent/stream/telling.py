"""Tell what a node did to those who stream: events to `custom`, and nothing but the answer to `messages`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent.context import Context
from lensgraph.agent.state import AgentState, Update
from lensgraph.agent.stream import events
from lensgraph.agent.stream.live import heard

R = TypeVar("R", bound=Command | Update)
Node = Callable[[AgentState, Runtime[Context]], Awaitable[R]]


def telling(node: Node[R]) -> Node[R]:
    """A node that tells what it did.

    LangGraph's `messages` mode shows each message that stands in a mapping that a node returns, and looks into no list of
    pairs. So a `Command` gives its update as pairs: dialogue and question are not shown, the message that `answer` returns is.
    """

    @functools.wraps(node)
    async def told(state: AgentState, runtime: Runtime[Context]) -> R:
        result = await node(state, runtime)
        update = result.update if isinstance(result, Command) else result
        if heard(runtime.stream_writer):
            for event in events.of(update, state):
                runtime.stream_writer(event)
        return replace(result, update=[*update.items()]) if isinstance(result, Command) else result

    return told
