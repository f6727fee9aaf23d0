"""`compile` for graphs of questions: pictures leave the input before LangGraph sees it, and synchronous callers are served.

Invariants: no picture's bytes reach a checkpoint, a trace or a stream, because the input is rewritten before LangGraph
sees it; with a checkpointer of its own a graph writes each step before the next begins, so that a killed run goes on where
it stopped.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Checkpointer

from lensgraph.agent import question, steering
from lensgraph.agent.context import Context, backends_of
from lensgraph.agent.errors import BadInput
from lensgraph.agent.state import AgentState, AskInput, AskOutput
from lensgraph.graphs import synchronous

INTERRUPTS = "__interrupt__"
"""LangGraph's key, in an output or an update, of what waits for a person."""


class AskGraph(CompiledStateGraph[AgentState, Context, AskInput, AskOutput]):
    """A compiled graph that takes a question about a picture."""

    async def astream(  # type: ignore[override]
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """LangGraph's `astream` with the pictures taken out; `ainvoke`, `abatch` and `astream_events` call it too."""
        if isinstance(context, dict):
            context = Context(**context)
        given = await self._admitted(input, config, context)
        if self.checkpointer and options.get("durability") is None:
            options["durability"] = "sync"
        # Closed together with this generator: a caller may stop in the middle, and an open one would end some time later.
        running = cast("AsyncGenerator[Any, None]", super().astream(given, config, context=context, **options))
        async with contextlib.aclosing(running) as parts:
            async for part in parts:
                yield part

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:  # type: ignore[override]
        """LangGraph's `astream_events`; the input that its first event repeats holds ids of pictures."""
        begin = functools.partial(super().astream_events, config=config, **options)
        if options.get("version") == "v3":  # no iterator, and its events do not repeat the input
            return begin(input)

        async def events() -> AsyncIterator[Any]:
            context = options.get("context")
            given = await self._admitted(input, config, Context(**context) if isinstance(context, dict) else context)
            async with contextlib.aclosing(cast("AsyncGenerator[Any, None]", begin(given))) as parts:
                async for part in parts:
                    yield part

        return events()

    async def _admitted(self, given: Any, config: RunnableConfig | None, context: Any) -> Any:
        """The input with its pictures in the store. A command is held against the state of its thread."""
        around = _parents_runtime()
        backends = await backends_of(around.context if context is None and around is not None else context)
        limits = backends.config.limits
        if not steering.moves(given):
            return await question.deposit(given, backends.store, limits, embedded=around is not None)
        try:
            values = (await self.aget_state(config or {})).values
        except ValueError as error:  # LangGraph: no checkpointer, or no thread named
            raise BadInput("Command(goto=..., update=...): needs a graph with a checkpointer, and a thread.") from error
        nodes = [name for name in self.nodes if not name.startswith("__")]
        return await steering.admit(given, values, nodes, backends.store, limits)

    def stream(  # type: ignore[override]
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[Any]:
        """LangGraph's `stream` for callers without an event loop: the nodes run in a thread that has its own loop."""
        return synchronous.iterate(lambda: self.astream(input, config, **options))


def _parents_runtime() -> Runtime[Any] | None:
    """The runtime of the parent graph, if this graph runs within one of its nodes; else None."""
    try:
        return get_runtime()
    except RuntimeError:  # outside of any run
        return None


def finished(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The output of a run, for a caller that can ask nobody.

    Raises:
        BadInput: the run waits for a person.
    """
    if INTERRUPTS in result:
        raise BadInput(
            "A search waits for a person, who cannot be asked here; run the graph itself with a checkpointer and a thread, and "
            "answer with Command(resume=...)."
        )
    return result


def compile(  # the verb of LangGraph
    wiring: StateGraph[AgentState, Context, AskInput, AskOutput], name: str, checkpointer: Checkpointer
) -> AskGraph:
    """Compile a graph that takes `AskInput` and gives `AskOutput` under a `Context`."""
    compiled = wiring.compile(checkpointer=checkpointer, name=name)
    compiled.__class__ = AskGraph  # LangGraph's builder names its class; ours adds behaviour and no state
    assert isinstance(compiled, AskGraph)
    return compiled


__all__ = ["INTERRUPTS", "AskGraph", "compile", "finished"]
