"""The node that searches the web with a picture."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import usage
from lensgraph.agent.approval import RegionArgs, check_region, review
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.images import ImageStore, Picture
from lensgraph.agent.nodes.call_tool import call
from lensgraph.agent.nodes.crop import cut_out
from lensgraph.agent.nodes.once import once
from lensgraph.agent.nodes.searching import WHOLE_PICTURE, edited_to, fitted, noted, over_limit, refuse, search_step
from lensgraph.agent.nodes.spending import price_of_calls, refusal, refused_step
from lensgraph.agent.nodes.token_budget import Thumbnails
from lensgraph.agent.state import AgentState, Step, Update, this_question
from lensgraph.agent.stream import telling
from lensgraph.tools.guard import Refused
from lensgraph.tools.registry import Kind
from lensgraph.tools.results import SearchResult, ToolError


@telling
async def image_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Search with the crop, or with the whole picture, and tell the policy what was found."""
    backends = await backends_of(runtime.context)
    if (refused := over_limit(state)) is not None:
        return Command(goto="reason", update=refuse(state, backends, "image", refused))
    result, thumbnails, update = await search_by_image(state, backends, runtime)
    dialect, asked = backends.dialect, state["asked"]
    if result.error is not None:
        observation = dialect.observe_failure("image", result.error, question=asked)
    else:
        cut = update["steps"][-1].get("crop")
        observation = dialect.observe_image(
            result, question=asked, crop=cut, thumbnails=thumbnails, note=state.get("note")
        )
    told = dialect.deliver(noted(observation, edited_to(update)), state["dialogue"])
    return Command(goto="reason", update={**update, "dialogue": told, "crop": None, "note": None})


async def search_by_image(
    state: AgentState, backends: Backends, runtime: Runtime[Context]
) -> tuple[SearchResult, Thumbnails, Update]:
    """Search with the crop or the first picture: the result as the policy is shown it, its thumbnails, and its step. Over a
    limit, or where a person rejects it, nothing is searched."""
    chosen = await _choose(state, backends, runtime)
    result = SearchResult(kind="image", query="image", error=chosen.error)
    if chosen.error is not None and not chosen.counts:
        return result, [], {**chosen.update, "steps": [refused_step("image_search", state, chosen.query, chosen.error)]}
    if chosen.picture is not None:
        tool = await backends.tool("image_search")
        failed, arguments = result, {"image": await backends.store.opened(chosen.picture["id"])}
        make = functools.partial(call, tool, arguments, failed, usage.turn_of(state), chosen.picture)
        result = await once(make, failed, chosen.picture["id"], tool, state, backends.store, runtime)
    result = result.model_copy(
        update={
            "hits": result.hits[: backends.dialect.image_hits],
            "seconds": result.seconds + chosen.seconds,
            "price": result.price + chosen.price,
        }
    )
    thumbnails: Thumbnails = []
    if backends.dialect.thumbnails:
        thumbnails = await asyncio.to_thread(lambda: [_thumbnail(hit.thumbnail, backends.store) for hit in result.hits])
    edited = chosen.query if chosen.edited else None
    result, thumbnails, cut_off = await fitted(
        state, backends, result, thumbnails,
        lambda found, shown: noted(backends.dialect.observe_image(
            found, question=state["asked"], crop=chosen.crop, thumbnails=shown, note=state.get("note")
        ), edited),
    )  # fmt: skip
    step = search_step("image_search", state, result, chosen.query, cut_off, edited=chosen.edited)
    step["crop"] = chosen.crop
    return result, thumbnails, {**chosen.update, "steps": [step]}


@dataclass(frozen=True)
class _Chosen:
    """The picture to search with: the graph's choice, or a person's."""

    query: str
    """The region, or that it is the whole picture."""
    picture: Picture | None = None
    """The picture. None: there is none, as `error` says."""
    crop: Picture | None = None
    """The same, if it is a part of a picture."""
    error: ToolError | None = None
    """The error in place of a search."""
    counts: bool = True
    """Whether it is a search made. False: over a limit, or rejected."""
    edited: bool = False
    """True: a person chose."""
    seconds: float = 0.0
    """Seconds that looking for a person's region took."""
    price: float = 0.0
    """US dollars that it cost."""
    update: Update = field(default_factory=dict)
    """Fields of the state to write."""


async def _choose(state: AgentState, backends: Backends, runtime: Runtime[Context]) -> _Chosen:
    pictures, last = state["pictures"], (this_question(state) or [Step()])[-1]
    # A command may have led elsewhere since the crop was cut, or ask for the whole picture.
    cut = state.get("crop") if last.get("node") == "crop" and state["action"].get("region") else None
    query = last["query"] if cut is not None else WHOLE_PICTURE
    calls: dict[Kind, int] = {"image_search": 1}
    if (refused := await refusal(state, backends, "image", calls)) is not None:
        return _Chosen(query, error=refused, counts=False)
    shown = cut or next(iter(pictures), None)
    if shown is None:
        return _Chosen(query, error=ToolError(reason="bad_input", message="there is no picture to search with"))
    asked = RegionArgs.model_construct(
        region=query if cut else None,
        box=tuple(cut["box"]) if cut and cut["box"] else None,
        picture=shown["parent"] or shown["id"],
    )
    check = functools.partial(check_region, pictures=pictures, shown=asked.picture, whole=True)
    verdict = review(
        "image_search", asked, state, backends, runtime,
        description=f"Search by picture: {query}", price=await price_of_calls(calls, backends), picture=shown, check=check,
    )  # fmt: skip
    if verdict.rejection is not None:
        return _Chosen(query, error=verdict.rejection, counts=False, update=verdict.update)
    if not verdict.edited:
        return _Chosen(query, shown, cut, update=verdict.update)
    wanted = verdict.args.meant(asked)
    if wanted.region is None and wanted.box is None:
        return _Chosen(WHOLE_PICTURE, check(wanted), edited=True, update=verdict.update)
    if wanted.box is None:
        calls["locate"] = len(pictures)
    if (refused := await refusal(state, backends, "image", calls)) is not None:
        return _Chosen(query, error=refused, counts=False, update=verdict.update)
    located, cut = await cut_out(
        state, backends, runtime, wanted.model_copy(update={"picture": wanted.picture or asked.picture})
    )
    return _Chosen(
        located.expression,
        cut,
        cut,
        located.error,
        edited=True,
        seconds=located.seconds,
        price=located.price,
        update=verdict.update,
    )


def _thumbnail(data: bytes | None, store: ImageStore) -> str | None:
    """A stored thumbnail's id. None: there is none, or the guard refuses it; a bad picture costs only itself."""
    try:
        return store.add(data, name="thumbnail")["id"] if data else None
    except Refused:
        return None
