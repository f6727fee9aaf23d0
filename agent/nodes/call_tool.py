"""Call a tool and keep its failures apart from the graph's: the boundary to foreign code.

Invariants: no exception of a tool passes; it becomes a failed result, which is recorded in the step and told to the policy.
Only what steers LangGraph passes: `interrupt()` in a tool interrupts the graph. The run of a call is told the records of
pictures, and a result without its thumbnails.
"""

from __future__ import annotations

import functools
import inspect
import time
import uuid
from typing import Any, Literal, TypeVar, get_type_hints

from langchain_core.callbacks import AsyncCallbackManagerForToolRun
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from lensgraph.agent.images import Picture, facts
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import LocateResult, SearchResult, ToolError
from lensgraph.tools.runtime import spans
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.redact import hide_data
from lensgraph.tools.safety.signals import steers

R = TypeVar("R", SearchResult, LocateResult)
SAME = (
    "callbacks",
    "description",
    "handle_tool_error",
    "handle_validation_error",
    "metadata",
    "name",
    "tags",
    "verbose",
)
"""Fields of LangChain's that a call has from its tool."""


async def call(tool: LensTool, arguments: dict[str, Any], failed: R, turn: int, picture: Picture | None = None) -> R:
    """Call a tool as LangChain does and return its artifact; `failed` is the result to fill in if that fails.

    `picture` is the record of the argument `image`, which callbacks are told in its place.
    """
    started = time.perf_counter()
    told = arguments if picture is None else {**arguments, "image": facts(picture)}
    same = {name: getattr(tool, name) for name in SAME}
    seen = ToolById.model_construct(inner=tool, given=arguments, **same)
    metadata = {"turn": turn, "provider": type(tool).__name__, "price": tool.price_per_call}
    # `nostream`: what a model inside a tool writes is no message of this graph.
    config: RunnableConfig = {"run_name": tool.name, "metadata": metadata, "tags": ["nostream"]}
    try:
        await seen.ainvoke({"type": "tool_call", "id": uuid.uuid4().hex, "name": tool.name, "args": told}, config)
        if isinstance(seen.result, type(failed)):
            return seen.result
        error = ToolError(reason="malformed", message=f"{tool.name} returned no {type(failed).__name__}")
    except Exception as problem:
        if steers(problem):
            raise
        error = ToolError(reason="unavailable", message=f"{tool.name}: {named_line(problem, first=True)}")
    return failed.model_copy(update={"error": error, "seconds": time.perf_counter() - started})


class ToolById(BaseTool):
    """One call of a tool, as callbacks see it: told records of pictures, it gives the pictures to the tool inside."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    inner: LensTool
    """The tool that does the work."""
    given: dict[str, Any]
    """Its arguments."""
    result: Any = None
    """Its artifact, once the call has ended."""

    async def _arun(self, run_manager: AsyncCallbackManagerForToolRun | None = None) -> tuple[Any, Any]:
        positional, named = self.inner._to_args_and_kwargs(self.given, None)
        if _takes_manager(type(self.inner)):
            named["run_manager"] = run_manager
        try:
            text, found = await self.inner._arun(*positional, **named)
        except Exception as error:
            if steers(error):
                raise
            raise hide_data(error)  # noqa: B904 (what stands behind it is hidden too)
        self.result = found
        if isinstance(found, SearchResult | LocateResult):
            spans.price("execute_tool", found.price, run_manager)
            if found.error is not None:
                spans.note("execute_tool", {"error.type": found.error.reason})
        if isinstance(found, SearchResult):
            found = found.model_copy(
                update={"hits": [hit.model_copy(update={"thumbnail": None}) for hit in found.hits]}
            )
        return text, found

    def _run(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError("the nodes call tools asynchronously")

    # --- in place of LangChain's reading of arguments by a schema: they are made by the nodes

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> tuple[tuple[()], dict[str, Any]]:
        return (), {}

    def _filter_injected_args(self, tool_input: dict[str, Any]) -> dict[str, Any]:
        return tool_input


@functools.cache
def _takes_manager(kind: type[LensTool]) -> bool:
    return "run_manager" in inspect.signature(kind._arun).parameters


def _read_once(method: Any) -> None:
    """Keep the signature and the types of a method. LangChain reads both at every call, the types from their source."""
    method.__annotations__ = get_type_hints(method)
    method.__signature__ = inspect.signature(method)


_read_once(ToolById._arun)


def error_line(error: ToolError | None) -> str | None:
    """The `error` of a step: `reason: message`, or None."""
    return None if error is None else f"{error.reason}: {error.message}"
