"""The node that searches the web with a picture."""

from __future__ import annotations

import asyncio
import functools
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import SearchByImage
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes.call_tool import call
from lensgraph.agent.nodes.once import once
from lensgraph.agent.nodes.searching import WHOLE_PICTURE, fitted, over_limit, refuse, search_step
from lensgraph.agent.nodes.spending import refusal, refused_step
from lensgraph.agent.nodes.token_budget import Thumbnails
from lensgraph.agent.state import AgentState, Update
from lensgraph.agent.stream import telling
from lensgraph.tools.guard import Refused
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
        observation = dialect.observe_image(
            result, question=asked, crop=state.get("crop"), thumbnails=thumbnails, note=state.get("note")
        )
    return Command(goto="reason", update={**update, "dialogue": [observation], "crop": None, "note": None})


async def search_by_image(
    state: AgentState, backends: Backends, runtime: Runtime[Context]
) -> tuple[SearchResult, Thumbnails, Update]:
    """Search with the crop or the first picture: the result as the policy is shown it, its thumbnails, and its step. Over a
    limit nothing is searched."""
    cut, pictures = state.get("crop"), state["pictures"]
    result = SearchResult(kind="image", query="image")
    query = _region(state) if cut is not None else WHOLE_PICTURE
    if (refused := await refusal(state, backends, "image", {"image_search": 1})) is not None:
        step = refused_step("image_search", state, query, refused)
        return result.model_copy(update={"error": refused}), [], {"steps": [step]}
    if cut is None and not pictures:
        error = ToolError(reason="bad_input", message="there is no picture to search with")
        result = result.model_copy(update={"error": error})
    else:
        tool = await backends.tool("image_search")
        picture, failed = cut or pictures[0], result
        arguments = {"image": await backends.store.opened(picture["id"])}
        make = functools.partial(call, tool, arguments, failed, usage.turn_of(state), picture)
        result = await once(make, failed, picture["id"], tool, state, backends.store, runtime)
    result = result.model_copy(update={"hits": result.hits[: backends.dialect.image_hits]})
    thumbnails: Thumbnails = []
    if backends.dialect.thumbnails:
        thumbnails = await asyncio.to_thread(lambda: [_thumbnail(hit.thumbnail, backends.store) for hit in result.hits])
    result, thumbnails, cut_off = await fitted(
        state, backends, result, thumbnails,
        lambda found, shown: backends.dialect.observe_image(
            found, question=state["asked"], crop=cut, thumbnails=shown, note=state.get("note")
        ),
    )  # fmt: skip
    step = search_step("image_search", state, result, query, cut_off)
    step["crop"] = cut
    return result, thumbnails, {"steps": [step]}


def _thumbnail(data: bytes | None, store: ImageStore) -> str | None:
    """A stored thumbnail's id. None: there is none, or the guard refuses it; a bad picture costs only itself."""
    try:
        return store.add(data, name="thumbnail")["id"] if data else None
    except Refused:
        return None


def _region(state: AgentState) -> str:
    action = actions.load_action(state["action"])
    return action.region or WHOLE_PICTURE if isinstance(action, SearchByImage) else WHOLE_PICTURE
