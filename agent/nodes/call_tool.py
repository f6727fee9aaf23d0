"""Call a tool and keep its failures apart from the graph's: the boundary to foreign code.

Invariants: no exception of a tool passes; it becomes a failed result, which is recorded in the step and told to the policy.
Only what steers LangGraph passes: `interrupt()` in a tool interrupts the graph. The run of a call is told the ids of
pictures, and a result without its thumbnails.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ensure_config, patch_config, set_config_context

from lensgraph.agent.images import Picture, facts
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import LocateResult, SearchResult, ToolError
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.signals import steers

R = TypeVar("R", SearchResult, LocateResult)


async def call(tool: LensTool, arguments: dict[str, Any], failed: R, turn: int, picture: Picture | None = None) -> R:
    """Call a tool in a run of its own and return its artifact; `failed` is the result to fill in if that fails.

    `picture` is the record of the argument `image`, which callbacks are told in its place.
    """
    started = time.perf_counter()
    told = arguments if picture is None else {**arguments, "image": facts(picture)}
    try:
        artifact = await _run(tool, arguments, told, turn)
        if isinstance(artifact, type(failed)):
            return artifact
        error = ToolError(reason="malformed", message=f"{tool.name} returned no {type(failed).__name__}")
    except Exception as problem:
        if steers(problem):
            raise
        error = ToolError(reason="unavailable", message=f"{tool.name}: {named_line(problem, first=True)}")
    return failed.model_copy(update={"error": error, "seconds": time.perf_counter() - started})


async def _run(tool: LensTool, given: dict[str, Any], told: dict[str, Any], turn: int) -> Any:
    """Run a tool as its `ainvoke` would, which tells callbacks the pictures themselves."""
    config, call_id = ensure_config(), uuid.uuid4().hex
    metadata = {**config["metadata"], "turn": turn, "provider": type(tool).__name__, "price": tool.price_per_call}
    manager = AsyncCallbackManager.configure(
        config["callbacks"], tool.callbacks, bool(tool.verbose), None, tool.tags, metadata, tool.metadata
    )
    known = {"name": tool.name, "description": tool.description}
    run = await manager.on_tool_start(known, str(told), inputs=told, tool_call_id=call_id)
    try:
        positional, named = tool._to_args_and_kwargs(given, call_id)
        with set_config_context(patch_config(config, callbacks=run.get_child())) as context:
            working = tool._arun(*positional, **named, run_manager=run)
            content, artifact = await asyncio.create_task(working, context=context)
    except BaseException as error:
        await run.on_tool_error(error, tool_call_id=call_id)
        raise
    shown, status = artifact, "success"
    if isinstance(artifact, SearchResult | LocateResult):
        run.metadata["price"] = artifact.price  # the run's own: tracers read it again as the run ends
        status = "error" if artifact.error else "success"
    if isinstance(artifact, SearchResult):
        hits = [hit.model_copy(update={"thumbnail": None}) for hit in artifact.hits]
        shown = artifact.model_copy(update={"hits": hits})
    message = ToolMessage(content, artifact=shown, tool_call_id=call_id, name=tool.name, status=status)
    await run.on_tool_end(message, name=tool.name)
    return artifact


def error_line(error: ToolError | None) -> str | None:
    """The `error` of a step: `reason: message`, or None."""
    return None if error is None else f"{error.reason}: {error.message}"
