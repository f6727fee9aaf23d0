"""`compile` for graphs of questions: pictures leave the input before LangGraph sees it, and synchronous callers are served.

Invariants: no picture's bytes reach a checkpoint, a trace or a stream, because the input is rewritten before LangGraph
sees it; with a checkpointer of its own a graph writes each step before the next begins, so that a killed run goes on where
it stopped.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Checkpointer, Command, StateSnapshot, StateUpdate
from pydantic import ValidationError

from lensgraph.agent import question, steering
from lensgraph.agent.config.problems import explain
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.errors import BadInput, UserError
from lensgraph.agent.state import AgentState, AskInput, AskOutput
from lensgraph.graphs import synchronous
from lensgraph.tools.base import wait_for

INTERRUPTS = "__interrupt__"
"""LangGraph's key, in an output or an update, of what waits for a person."""


class AskGraph(CompiledStateGraph[AgentState, Context, AskInput, AskOutput]):
    """A compiled graph that takes a question about a picture."""

    async def astream(  # type: ignore[override]
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """LangGraph's `astream` with the pictures taken out; `ainvoke`, `abatch` and `astream_events` call it too."""
        context = _as_context(context)
        given, config = await self._admitted(input, config, context)
        if self.checkpointer and options.get("durability") is None:
            options["durability"] = "sync"
        # Closed together with this generator: a caller may stop in the middle, and an open one would end some time later.
        running = cast("AsyncGenerator[Any, None]", super().astream(given, config, context=context, **options))
        async with contextlib.aclosing(running) as parts:
            async for part in parts:
                yield part

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:  # type: ignore[override]
        """LangGraph's `astream_events`; the input that its first event repeats holds ids of pictures."""
        begin = functools.partial(super().astream_events, **options)
        if options.get("version") == "v3":  # no iterator, and its events do not repeat the input
            return begin(input, config)

        async def events() -> AsyncIterator[Any]:
            given, where = await self._admitted(input, config, _as_context(options.get("context")))
            async with contextlib.aclosing(cast("AsyncGenerator[Any, None]", begin(given, where))) as parts:
                async for part in parts:
                    yield part

        return events()

    async def _admitted(
        self, given: Any, config: RunnableConfig | None, context: Any
    ) -> tuple[Any, RunnableConfig | None]:
        """The input with its pictures in the store, and the config of its run."""
        around = _parents_runtime()
        backends = await backends_of(around.context if context is None and around is not None else context)
        self._check_approvals(backends, config)
        if isinstance(given, Command):
            return await self._commanded(given, config or {}, backends)
        limits = backends.config.limits
        return await question.deposit(given, backends.store, limits, embedded=around is not None), config

    def _check_approvals(self, backends: Backends, config: RunnableConfig | None) -> None:
        """Refuse a run that would have to ask a person and could not go on with the answer, before it spends anything."""
        asked = [node for node in self.nodes if node in backends.approve]
        if asked and not self._resolve_checkpointer(ensure_config(config)):
            raise BadInput(
                f"approve={', '.join(asked)}: a call that waits for a person needs a graph with a checkpointer, and a thread; "
                "build the graph with one, such as build(InMemorySaver()), or ask for no approval."
            )

    async def _commanded(
        self, command: Command[Any], config: RunnableConfig, backends: Backends
    ) -> tuple[Any, RunnableConfig]:
        """The input and the config of a run that a command asks for, held against the state of its thread.

        The move of a command is written first, as an update of the thread. LangGraph would keep it beside the checkpoint until a
        node has ended; a node that waits for a person would leave it there, and the next command would break the thread.
        """
        try:
            thread = await self.aget_state(config)
        except UserError:
            raise
        except ValueError as error:  # LangGraph: no checkpointer, or no thread named
            raise BadInput("Command(...): needs a graph with a checkpointer, and a thread.") from error
        steering.check_resume(command, thread)
        if command.goto or command.update:
            (update,), *_ = await self._written([[StateUpdate(command, None)]], thread, backends)  # type: ignore[arg-type]
            moved = await super().abulk_update_state(config, [[update]])
            if config.get("configurable", {}).get("checkpoint_id"):
                config = moved
        return (None if command.resume is None else Command(resume=command.resume)), config

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """LangGraph's own, which `aupdate_state` calls, under the rules of `steering`: a run that waits goes on.

        An update brings no context with it: its pictures go to the configured store."""
        update = await self._written(supersteps, await self.aget_state(config), await backends_of(None))
        return await super().abulk_update_state(config, update)

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """As `abulk_update_state`, which `update_state` calls."""
        backends = wait_for(backends_of(None))
        return super().bulk_update_state(config, wait_for(self._written(supersteps, self.get_state(config), backends)))

    async def _written(
        self, supersteps: Sequence[Sequence[StateUpdate]], thread: StateSnapshot, backends: Backends
    ) -> list[list[StateUpdate]]:
        nodes = {name: node for name, node in self.nodes.items() if not name.startswith("__")}
        # Each node writes the state and what it names as the next; a drawn edge would be one writer more.
        quiet = next((name for name, node in nodes.items() if len(node.writers) == 1), None)
        admit = functools.partial(
            steering.admit_update, thread=thread, nodes=list(nodes), quiet=quiet, store=backends.store,
            limits=backends.config.limits,
        )  # fmt: skip
        return [[await admit(update) for update in superstep] for superstep in supersteps]

    def stream(  # type: ignore[override]
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[Any]:
        """LangGraph's `stream` for callers without an event loop: the nodes run in a thread that has its own loop."""
        return synchronous.iterate(lambda: self.astream(input, config, **options))


def _as_context(given: Any) -> Context | None:
    """A context that a caller gave as JSON, or as it is.

    Raises:
        BadInput: it holds what no context has.
    """
    if given is None or isinstance(given, Context):
        return given
    if not isinstance(given, Mapping):
        raise BadInput(f"context: a {type(given).__name__}; give a dictionary, or lensgraph.Context(...).")
    try:
        return Context.model_validate(dict(given))
    except ValidationError as error:
        raise BadInput(f"context: {explain(error, Context)}") from None


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
    compiled.config = {"metadata": {"agent_name": name}}  # by which OpenTelemetry knows the run of an agent
    return compiled


__all__ = ["INTERRUPTS", "AskGraph", "compile", "finished"]
