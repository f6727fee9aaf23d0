"""The node that cuts a region out: for an image search, or to show it to the policy."""

from __future__ import annotations

import asyncio
import functools
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import Crop, SearchByImage
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.images import Picture
from lensgraph.agent.nodes.call_tool import call, error_line
from lensgraph.agent.nodes.once import once
from lensgraph.agent.nodes.spending import calls_of, refusal, refused_step
from lensgraph.agent.state import AgentState, Step, Update
from lensgraph.agent.stream import telling
from lensgraph.tools.results import LocateResult, ToolError
from lensgraph.tools.safety.one_line import one_line


@telling
async def crop(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["image_search", "reason"]]:
    """Find the region that the policy named and cut it out.

    A region that is not found is told to the policy, or the whole picture is searched, as the dialect wants.
    """
    backends = await backends_of(runtime.context)
    dialect, asked = backends.dialect, state["asked"]
    action = actions.load_action(state["action"])
    if not isinstance(action, SearchByImage | Crop) or action.region is None:
        raise TypeError(f"crop needs a region, not {action!r}")
    kind: Literal["image", "crop"] = "image" if isinstance(action, SearchByImage) else "crop"
    if (refused := await refusal(state, backends, kind, calls_of(action, state["pictures"]))) is not None:
        observation = dialect.observe_failure("crop", refused, question=asked)
        step = refused_step("crop", state, action.region, refused)
        return Command(goto="reason", update={"steps": [step], "crop": None, "note": None, "dialogue": [observation]})
    located, parent = await locate(state, backends, runtime, action.region)
    cut: Picture | None = None
    error = located.error
    if error is None and parent is not None:
        try:
            cut = await asyncio.to_thread(backends.store.crop, parent, located.regions[0].box)
        except ValueError as problem:  # a locator's box outside the picture
            error = ToolError(reason="malformed", message=one_line(problem, first=True))
    step = Step(
        node="crop", turn=usage.turn_of(state), seconds=located.seconds, price=located.price, query=action.region,
        crop=cut, error=error_line(error),
    )  # fmt: skip
    update: Update = {"steps": [step], "crop": cut, "note": None}
    if cut is not None:
        if isinstance(action, SearchByImage):
            return Command(goto="image_search", update=update)
        return Command(goto="reason", update={**update, "dialogue": [dialect.observe_crop(cut, question=asked)]})
    error = error or ToolError(reason="empty", message=f"no region found for {action.region!r}")
    if isinstance(action, SearchByImage) and dialect.missing_region == "whole":
        note = f"{error.message} The whole picture was searched instead."
        return Command(goto="image_search", update={**update, "note": note})
    observation = dialect.observe_failure("crop", error, question=asked)
    return Command(goto="reason", update={**update, "dialogue": [observation]})


async def locate(
    state: AgentState, backends: Backends, runtime: Runtime[Context], region: str
) -> tuple[LocateResult, Picture | None]:
    """Look for the region in every picture of the question; the result with the highest score and its picture."""
    pictures = state["pictures"]
    if not pictures:
        error = ToolError(reason="bad_input", message="there is no picture to look at")
        return LocateResult(expression=region, error=error), None
    tool = await backends.tool("locate")
    results: list[LocateResult] = []
    for picture in pictures:
        image = await backends.store.opened(picture["id"])
        failed, arguments = LocateResult(expression=region), {"image": image, "expression": region}
        make = functools.partial(call, tool, arguments, failed, usage.turn_of(state), picture)
        what = f"{picture['id']} {region}"
        results.append(
            await make() if tool.repeatable else await once(make, failed, what, tool, state, backends.store, runtime)
        )
    best = max(range(len(results)), key=lambda n: results[n].regions[0].score if results[n].regions else -1.0)
    total = {"seconds": sum(r.seconds for r in results), "price": sum(r.price for r in results)}
    return results[best].model_copy(update=total), pictures[best]
