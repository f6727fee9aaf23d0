"""The node that cuts a region out: for an image search, or to show it to the policy."""

from __future__ import annotations

import asyncio
import functools
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import Crop, SearchByImage
from lensgraph.agent.approval import RegionArgs, Reviewed, check_region, review
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import Picture
from lensgraph.agent.nodes.call_tool import call, error_line
from lensgraph.agent.nodes.once import once
from lensgraph.agent.nodes.searching import noted
from lensgraph.agent.nodes.spending import calls_of, price_of_calls, refusal, refused_step
from lensgraph.agent.state import AgentState, Step
from lensgraph.agent.stream import telling
from lensgraph.tools.results import Box, LocateResult, Region, ToolError
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
    refused = await refusal(state, backends, kind, calls_of(action, state["pictures"]))
    verdict = None if refused is not None else await _reviewed(state, backends, runtime, action.region)
    if verdict is None or verdict.rejection is not None:
        error = refused if verdict is None else verdict.rejection
        assert error is not None
        told = dialect.deliver(dialect.observe_failure("crop", error, question=asked), state["dialogue"])
        step = refused_step("crop", state, action.region, error)
        step["to_search"] = kind == "image"
        update = {"crop": None, "note": None, "dialogue": told} | ({} if verdict is None else verdict.update)
        return Command(goto="reason", update={**update, "steps": [step]})
    located, cut = await cut_out(state, backends, runtime, verdict.args)
    step = Step(
        node="crop", turn=usage.turn_of(state), seconds=located.seconds, price=located.price, query=located.expression,
        crop=cut, error=error_line(located.error),
    )  # fmt: skip
    step["to_search"] = kind == "image" and (cut is not None or dialect.missing_region == "whole")
    if verdict.edited:
        step["edited"] = True
    edited = located.expression if verdict.edited else None
    update = {
        **verdict.update,
        "steps": [step],
        "crop": cut if kind == "image" else None,  # one that is only looked at is not what a later search is made with
        "note": edited and f"A person changed the region to: {edited}",
    }
    if cut is not None:
        if isinstance(action, SearchByImage):
            return Command(goto="image_search", update=update)
        observation = noted(dialect.observe_crop(cut, question=asked), edited)
        told = dialect.deliver(observation, state["dialogue"])
        return Command(goto="reason", update={**update, "note": None, "dialogue": told})
    assert located.error is not None
    if isinstance(action, SearchByImage) and dialect.missing_region == "whole":
        note = f"{located.error.message} The whole picture was searched instead."
        return Command(goto="image_search", update={**update, "note": note})
    observation = noted(dialect.observe_failure("crop", located.error, question=asked), edited)
    told = dialect.deliver(observation, state["dialogue"])
    return Command(goto="reason", update={**update, "note": None, "dialogue": told})


async def _reviewed(
    state: AgentState, backends: Backends, runtime: Runtime[Context], region: str
) -> Reviewed[RegionArgs]:
    """The decision of a person about looking for a region."""
    pictures = state["pictures"]
    only = pictures[0] if len(pictures) == 1 else None
    return review(
        "crop", RegionArgs.model_construct(region=region), state, backends, runtime,
        description=f"Look for a region of the picture: {region}", picture=only,
        price=await price_of_calls({"locate": len(pictures)}, backends),
        check=lambda args: check_region(args, pictures, only["id"] if only else None, whole=False),
    )  # fmt: skip


async def cut_out(
    state: AgentState, backends: Backends, runtime: Runtime[Context], wanted: RegionArgs
) -> tuple[LocateResult, Picture | None]:
    """The region in words or in pixels, and its crop. None: it was not found, and the result's `error` says why."""
    if wanted.box is not None:
        parent = check_region(wanted, state["pictures"], state["pictures"][0]["id"], whole=False)
        left, top, right, bottom = wanted.box
        located = LocateResult(
            expression=wanted.region or f"box {left},{top} to {right},{bottom}",
            regions=[Region(box=Box(left=left, top=top, right=right, bottom=bottom), score=1.0)],
        )
    else:
        located, parent = await locate(state, backends, runtime, wanted.region or "")
    error = located.error
    if error is None and parent is not None and located.regions:
        try:
            return located, await asyncio.to_thread(backends.store.crop, parent, located.regions[0].box)
        except UserError:  # the folder of the pictures, not the box
            raise
        except ValueError as problem:  # a locator's box outside the picture
            error = ToolError(reason="malformed", message=one_line(problem, first=True))
    error = error or ToolError(reason="empty", message=f"no region found for {located.expression!r}")
    return located.model_copy(update={"error": error}), None


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
