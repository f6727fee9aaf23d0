"""The steps of an episode. Each node is small; which node comes next stands in its return type.

Invariants: `reason` is the only sampled decision; a tool that fails, finds nothing or is over a limit becomes an
observation; only `answer` ends an episode; every node visit that waited for someone leaves one record in `steps`.
The functions without a `Command` do the work and are shared with the baselines in `graphs`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, question, usage
from lensgraph.agent.actions import Answer, Crop, GiveUp, ImageSearch, Malformed, OverLimit, TextSearch
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.dialects import Dialect
from lensgraph.agent.images import ImageStore, Picture
from lensgraph.agent.limits import StopReason
from lensgraph.agent.nodes import once, token_budget
from lensgraph.agent.policy.errors import ContextFull, PolicyError
from lensgraph.agent.state import AgentState, Hit, Step, this_dialogue, this_question
from lensgraph.tools.base import LensTool
from lensgraph.tools.guard import Refused
from lensgraph.tools.pages.summarise import asking
from lensgraph.tools.results import LocateResult, SearchResult, ToolError
from lensgraph.tools.safety.errors import named_line, one_line

Update = dict[str, Any]
R = TypeVar("R", SearchResult, LocateResult)
WHOLE_PICTURE = "<whole picture>"
"""What a record calls a search without a region."""
CONTEXT_FULL = "context_full"
"""The reason in a step's `error` when the dialogue did not fit the policy's context."""
UNANSWERED = {
    StopReason.GAVE_UP: "I could not find the answer.",
    StopReason.MALFORMED: "I have no answer: the policy's last turn could not be read.",
    StopReason.SEARCH_LIMIT: "I have no answer within the allowed searches.",
    StopReason.TURN_LIMIT: "I have no answer within the allowed turns.",
    StopReason.TOKEN_LIMIT: "I have no answer within the allowed tokens.",
    StopReason.TIME_LIMIT: "I have no answer within the allowed time.",
    StopReason.POLICY_FAILED: "I have no answer: the policy could not be reached.",
}
"""What the chat shows when there is no answer."""


# --- receive


async def receive(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Take the question in: pictures go to the store, the dialogue gets its opening turn."""
    backends = await backends_of(runtime.context)
    update = await take_question(state, backends)
    opening = backends.dialect.first(update["asked"], unseen(update["pictures"], state, backends))
    return Command(goto="reason", update={**update, "dialogue": opening})


def unseen(pictures: list[Picture], state: AgentState, backends: Backends) -> list[str]:
    """Ids of the pictures that the policy does not see yet: a follow-up repeats none, unless it opens a new dialogue."""
    if backends.dialect.follow_up == "restart":
        return [picture["id"] for picture in pictures]
    seen = {block["id"] for message in state.get("dialogue") or [] for block in _image_blocks(message)}
    return [picture["id"] for picture in pictures if picture["id"] not in seen]


async def take_question(state: AgentState, backends: Backends) -> Update:
    """The question and its pictures, without an opening turn."""
    asked = await question.take(state, backends.store, backends.config.limits)
    return {
        "messages": [asked.message],
        "asked": asked.text,
        "pictures": asked.pictures,
        "first_step": len(state.get("steps") or []),
        "first_message": len(state.get("dialogue") or []) if backends.dialect.follow_up == "restart" else 0,
        "started": time.time(),
        "crop": None,
        "note": None,
    }


# --- reason


async def reason(
    state: AgentState, runtime: Runtime[Context]
) -> Command[Literal["crop", "image_search", "text_search", "answer"]]:
    """Let the policy choose the next action: the only sampled decision."""
    backends = await backends_of(runtime.context)
    update = await think(state, backends)
    return Command(goto=_route(actions.load(update["action"]), backends), update=update)


def _route(action: actions.Action, backends: Backends) -> Literal["crop", "image_search", "text_search", "answer"]:
    match action:
        case TextSearch():
            return "text_search"
        case ImageSearch(region=None):
            return "image_search"
        case ImageSearch() | Crop():
            return "crop"
        case OverLimit(wanted=wanted, stop=stop):
            # Where the dialect tells the policy, the tool's node does so; but not when there is no turn left to read it.
            if backends.dialect.over_limit == "tell" and stop is StopReason.SEARCH_LIMIT:
                return "text_search" if isinstance(wanted, TextSearch) else "image_search"
            return "answer"
        case Answer() | GiveUp() | Malformed():
            return "answer"


async def think(state: AgentState, backends: Backends) -> Update:
    """One turn of the policy: call it on the dialogue, read its action."""
    steps = this_question(state)
    number = len(usage.policy_turns(steps)) + 1
    policy = await backends.policy()
    messages = await materialise(
        this_dialogue(state), backends.store, backends.dialect, backends.view_pixels,
        as_urls=getattr(policy, "takes_image_urls", False),
    )  # fmt: skip
    started = time.perf_counter()
    try:
        reply = await policy.ainvoke(messages, stop=backends.dialect.stop or None)
    except Exception as problem:
        error = _failure(problem, backends)
        if error is None:
            raise
        failed = actions.dump(Malformed("the policy failed"))
        record = Step(
            node="reason", turn=number, seconds=time.perf_counter() - started, price=0.0, text="", thought="",
            action=failed, error=f"{CONTEXT_FULL if isinstance(error, ContextFull) else 'policy'}: {error}",
        )  # fmt: skip
        if isinstance(error, ContextFull) and error.left_out:
            record["left_out"] = error.left_out
        return {"steps": [record], "action": failed}
    seconds = time.perf_counter() - started
    text = text_of(reply)
    tokens = _tokens(reply)
    action = backends.dialect.parse(text, usage.spent(steps, state["started"], tokens))
    record = Step(
        node="reason",
        turn=number,
        seconds=seconds,
        price=float(reply.response_metadata.get("price", 0.0)),
        text=text,
        thought=backends.dialect.thought(text) or str(reply.additional_kwargs.get("reasoning_content", "")),
        action=actions.dump(action),
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        error=None,
    )
    if left_out := reply.response_metadata.get("left_out"):
        record["left_out"] = list(left_out)
    return {"dialogue": [reply], "steps": [record], "action": record["action"]}


def _failure(problem: Exception, backends: Backends) -> PolicyError | None:
    """What ends the episode when the policy raises this; None: it is a bug, or LangGraph's own signal, and goes on up."""
    if isinstance(problem, PolicyError):
        return problem
    if isinstance(problem, GraphBubbleUp) or not backends.foreign_policy:
        return None
    return PolicyError(f"{backends.config.policy.kind}: {named_line(problem, first=True)}")


def text_of(message: BaseMessage) -> str:
    """The text of a turn, unstripped: strict dialects look at its very end."""
    if isinstance(message.content, str):
        return message.content
    return "".join(b if isinstance(b, str) else str(b.get("text", "")) for b in message.content)


def _tokens(reply: AIMessage) -> tuple[int, int]:
    counted = reply.usage_metadata
    return (counted["input_tokens"], counted["output_tokens"]) if counted else (0, 0)


async def materialise(
    dialogue: list[AnyMessage], store: ImageStore, dialect: Dialect, view_pixels: int, *, as_urls: bool = False
) -> list[AnyMessage]:
    """The dialogue with the bytes of its pictures: what the policy is called with. The dialogue itself keeps ids.

    `as_urls` gives `image_url` blocks with data URIs: what LangChain would otherwise make of every standard block at every call,
    for tracers that may not be there.
    """
    shown = {(b["id"], dialect.view(b, view_pixels)) for m in dialogue for b in _image_blocks(m)}
    missing = [(identity, view) for identity, view in shown if store.cached_block(identity, *view) is None]
    if missing:
        await asyncio.to_thread(lambda: [store.block(identity, *view) for identity, view in missing])
    return [_with_bytes(message, store, dialect, view_pixels, as_urls=as_urls) for message in dialogue]


def _image_blocks(message: AnyMessage) -> list[dict[str, Any]]:
    if not isinstance(message, HumanMessage) or isinstance(message.content, str):
        return []
    return [block for block in message.content if isinstance(block, dict) and block.get("type") == "image"]


def _with_bytes(
    message: AnyMessage, store: ImageStore, dialect: Dialect, view_pixels: int, *, as_urls: bool
) -> AnyMessage:
    if not _image_blocks(message):
        return message

    def filled(block: dict[str, Any]) -> dict[str, Any]:
        held = store.block(block["id"], *dialect.view(block, view_pixels))
        if as_urls:
            url = f"data:{held['mime_type']};base64,{held['base64']}"
            held = {"type": "image_url", "image_url": {"url": url}}
        return {**block, **held}  # what else stands in the block, such as that it is a thumbnail, is kept

    content = [
        filled(block) if isinstance(block, dict) and block.get("type") == "image" else block
        for block in message.content
    ]
    return message.model_copy(update={"content": content})


# --- crop


async def crop(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["image_search", "reason"]]:
    """Find the region that the policy named and cut it out; then search with it, or just show it."""
    backends = await backends_of(runtime.context)
    dialect, asked = backends.dialect, state["asked"]
    action = actions.load(state["action"])
    if not isinstance(action, ImageSearch | Crop) or action.region is None:
        raise TypeError(f"crop needs a region, not {action!r}")
    located, parent = await locate(state, backends, action.region)
    cut: Picture | None = None
    error = located.error
    if error is None and parent is not None:
        try:
            cut = await asyncio.to_thread(backends.store.crop, parent, located.regions[0].box)
        except ValueError as problem:  # a locator's box outside the picture
            error = ToolError(reason="malformed", message=one_line(problem, first=True))
    record = Step(
        node="crop", turn=_turn(state), seconds=located.seconds, price=located.price, query=action.region,
        crop=cut, error=_line(error),
    )  # fmt: skip
    update: Update = {"steps": [record], "crop": cut, "note": None}
    if cut is not None:
        if isinstance(action, ImageSearch):
            return Command(goto="image_search", update=update)
        return Command(goto="reason", update={**update, "dialogue": [dialect.observe_crop(cut, question=asked)]})
    error = error or ToolError(reason="empty", message=f"no region found for {action.region!r}")
    if isinstance(action, ImageSearch) and dialect.missing_region == "whole":
        note = f"{error.message} The whole picture was searched instead."
        return Command(goto="image_search", update={**update, "note": note})
    observation = dialect.observe_failure("crop", error, question=asked)
    return Command(goto="reason", update={**update, "dialogue": [observation]})


async def locate(state: AgentState, backends: Backends, region: str) -> tuple[LocateResult, Picture | None]:
    """Look for the region in every picture of the question; the surest region wins."""
    pictures = state["pictures"]
    if not pictures:
        error = ToolError(reason="bad_input", message="there is no picture to look at")
        return LocateResult(expression=region, error=error), None
    tool = await backends.tool("locate")
    results: list[LocateResult] = []
    for picture in pictures:
        image = await backends.store.opened(picture["id"])
        failed = LocateResult(expression=region)
        results.append(await call(tool, {"image": image, "expression": region}, failed))
    best = max(range(len(results)), key=lambda n: results[n].regions[0].score if results[n].regions else -1.0)
    total = {"seconds": sum(r.seconds for r in results), "price": sum(r.price for r in results)}
    return results[best].model_copy(update=total), pictures[best]


# --- searches


async def image_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Search the web with the crop, or with the whole picture."""
    backends = await backends_of(runtime.context)
    refused = _refused(state)
    if refused is not None:
        return Command(goto="reason", update=refuse(state, backends, "image", refused))
    result, thumbnails, update = await search_by_image(state, backends, runtime)
    dialect, asked, cut = backends.dialect, state["asked"], state.get("crop")
    if result.error is not None:
        observation = dialect.observe_failure("image", result.error, question=asked)
    else:
        observation = dialect.observe_image(
            result, question=asked, crop=cut, thumbnails=thumbnails, note=state.get("note")
        )
    return Command(goto="reason", update={**update, "dialogue": [observation], "crop": None, "note": None})


async def search_by_image(
    state: AgentState, backends: Backends, runtime: Runtime[Context]
) -> tuple[SearchResult, list[str | None], Update]:
    """The image search itself: its result cut to what the dialect shows, stored thumbnails, and its record."""
    cut, pictures = state.get("crop"), state["pictures"]
    result = SearchResult(kind="image", query="image")
    if cut is None and not pictures:
        error = ToolError(reason="bad_input", message="there is no picture to search with")
        result = result.model_copy(update={"error": error})
    else:
        tool = await backends.tool("image_search")
        identity, failed = (cut or pictures[0])["id"], result
        image = await backends.store.opened(identity)
        result = await once.once(
            lambda: call(tool, {"image": image}, failed), failed, identity, tool, state, backends.store, runtime
        )
    result = result.model_copy(update={"hits": result.hits[: backends.dialect.image_hits]})
    thumbnails: list[str | None] = []
    if backends.dialect.thumbnails:
        thumbnails = await asyncio.to_thread(lambda: [_thumbnail(hit.thumbnail, backends.store) for hit in result.hits])
    result, thumbnails, cut_off = await _fitted(
        state, backends, result, thumbnails,
        lambda found, shown: backends.dialect.observe_image(
            found, question=state["asked"], crop=cut, thumbnails=shown, note=state.get("note")
        ),
    )  # fmt: skip
    query = _region(state) if cut is not None else WHOLE_PICTURE
    record = _search_record("image_search", state, result, query, cut_off)
    record["crop"] = cut
    return result, thumbnails, {"steps": [record]}


async def _fitted(
    state: AgentState,
    backends: Backends,
    result: SearchResult,
    thumbnails: list[str | None],
    observe: Callable[[SearchResult, list[str | None]], BaseMessage],
) -> tuple[SearchResult, list[str | None], int]:
    """What of a result the tokens that are left have room for; see `lensgraph.agent.nodes.token_budget`."""
    left = token_budget.left(this_question(state), backends.dialect.limits.tokens)
    if left is None:
        return result, thumbnails, 0

    def cost(found: SearchResult, shown: list[str | None]) -> int:
        return token_budget.tokens_of(observe(found, shown), backends.store, backends.dialect, backends.view_pixels)

    return await asyncio.to_thread(token_budget.fit, result, thumbnails, left, cost, backends.dialect.snippet_chars)


def _thumbnail(data: bytes | None, store: ImageStore) -> str | None:
    """A stored thumbnail's id; None if there is none or the guard refuses it: a bad picture costs only itself."""
    try:
        return store.add(data, name="thumbnail")["id"] if data else None
    except Refused:
        return None


async def text_search(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Search the web with the policy's query."""
    backends = await backends_of(runtime.context)
    refused = _refused(state)
    if refused is not None:
        return Command(goto="reason", update=refuse(state, backends, "text", refused))
    action = actions.load(state["action"])
    if not isinstance(action, TextSearch):
        raise TypeError(f"text_search needs a query, not {action!r}")
    result, update = await search_by_text(state, backends, runtime, action.query)
    if result.error is not None:
        observation = backends.dialect.observe_failure("text", result.error, question=state["asked"])
    else:
        observation = backends.dialect.observe_text(result, question=state["asked"])
    return Command(goto="reason", update={**update, "dialogue": [observation]})


async def search_by_text(
    state: AgentState, backends: Backends, runtime: Runtime[Context], query: str
) -> tuple[SearchResult, Update]:
    """The text search itself: its result cut to what the dialect shows, and its record."""
    tool = await backends.tool("text_search")
    failed = SearchResult(kind="text", query=query)
    with asking(state["asked"]):
        result = await once.once(
            lambda: call(tool, {"query": query}, failed), failed, query, tool, state, backends.store, runtime
        )
    result = result.model_copy(update={"hits": result.hits[: backends.dialect.text_hits]})
    result, _, cut_off = await _fitted(
        state, backends, result, [], lambda found, _: backends.dialect.observe_text(found, question=state["asked"])
    )
    return result, {"steps": [_search_record("text_search", state, result, query, cut_off)]}


def _search_record(node: str, state: AgentState, result: SearchResult, query: str, cut_off: int) -> Step:
    hits = [Hit(title=h.title, url=h.url, snippet=h.snippet, score=h.score) for h in result.hits]
    record = Step(
        node=node, turn=_turn(state), seconds=result.seconds, price=result.price, query=query, hits=hits,
        error=_line(result.error),
    )  # fmt: skip
    if cut_off:
        record["cut_off"] = cut_off
    return record


def _refused(state: AgentState) -> OverLimit | None:
    action = actions.load(state["action"])
    return action if isinstance(action, OverLimit) else None


def refuse(state: AgentState, backends: Backends, kind: Literal["image", "text"], action: OverLimit) -> Update:
    """Tell the policy that this search is over a limit. No tool runs, so the record holds no `hits`."""
    error = ToolError(reason="refused", message=f"no {kind} searches left; answer with what you know")
    record = Step(
        node=f"{kind}_search",
        turn=_turn(state),
        seconds=0.0,
        price=0.0,
        query=_wanted(action),
        error=_line(error),
    )
    return {
        "steps": [record],
        "dialogue": [backends.dialect.observe_failure(kind, error, question=state["asked"])],
    }


def _wanted(action: OverLimit) -> str:
    wanted = action.wanted
    return wanted.query if isinstance(wanted, TextSearch) else wanted.region or WHOLE_PICTURE


async def call(tool: LensTool, arguments: dict[str, Any], failed: R) -> R:
    """Call a tool as LangChain does and return its artifact; an exception becomes a failed result."""
    started = time.perf_counter()
    request = {"type": "tool_call", "id": uuid.uuid4().hex, "name": tool.name, "args": arguments}
    try:
        message = await tool.ainvoke(request)
        artifact = message.artifact
        if isinstance(artifact, type(failed)):
            return artifact
        error = ToolError(reason="malformed", message=f"{tool.name} returned no {type(failed).__name__}")
    except Exception as problem:  # the boundary to foreign code: recorded in the step, told to the policy
        error = ToolError(reason="unavailable", message=f"{tool.name}: {named_line(problem, first=True)}")
    return failed.model_copy(update={"error": error, "seconds": time.perf_counter() - started})


def _line(error: ToolError | None) -> str | None:
    return None if error is None else f"{error.reason}: {error.message}"


def _turn(state: AgentState) -> int:
    return len(usage.policy_turns(this_question(state)))


def _region(state: AgentState) -> str:
    action = actions.load(state["action"])
    return action.region or WHOLE_PICTURE if isinstance(action, ImageSearch) else WHOLE_PICTURE


# --- answer


async def answer(state: AgentState, runtime: Runtime[Context]) -> Update:
    """Close the episode: the answer or why there is none, its sources and its cost."""
    return close(state)


def close(state: AgentState) -> Update:
    """The output of the graph, from the last action and the steps of this question."""
    steps = this_question(state)
    text, stop = outcome(steps)
    sources = usage.sources(steps)
    message = AIMessage(
        UNANSWERED[stop] if text is None else text,
        response_metadata={"stop_reason": str(stop), "sources": sources},
    )
    return {
        "messages": [message],
        "answer": text,
        "sources": sources,
        "usage": usage.usage(steps),
        "stop_reason": str(stop),
    }


def outcome(steps: list[Step]) -> tuple[str | None, StopReason]:
    """The answer, None if there is none, and why the episode ended."""
    last = usage.policy_turns(steps)[-1]
    if error := last.get("error"):
        full = error.partition(":")[0] == CONTEXT_FULL
        return None, StopReason.TOKEN_LIMIT if full else StopReason.POLICY_FAILED
    match actions.load(last["action"]):
        case Answer(text=text):
            return text, StopReason.ANSWERED
        case GiveUp():
            return None, StopReason.GAVE_UP
        case OverLimit(stop=stop):
            return None, stop
        case Malformed():
            return None, StopReason.MALFORMED
        case TextSearch() | ImageSearch() | Crop():  # a baseline was asked to answer and searched instead
            return None, StopReason.SEARCH_LIMIT
