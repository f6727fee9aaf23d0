"""The node in which the policy decides, and from which each action that it asked for is served.

Invariant: this is the only sampled decision of an episode; the policy is asked again when its last turn is served.
"""

from __future__ import annotations

import math
import time
from typing import Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import Action, Answer, Crop, GiveUp, Malformed, OverLimit, SearchByImage, SearchByText
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.limits import StopReason
from lensgraph.agent.nodes.agenda import in_time, plan
from lensgraph.agent.policy.calling.shown import by_id
from lensgraph.agent.policy.errors import ContextFull, NoPicture, PolicyError, PriceSpent
from lensgraph.agent.state import AgentState, Step, Update, this_dialogue, this_question
from lensgraph.agent.stream import Live, telling
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.signals import steers

ABOUT_PICTURES = (
    "this policy answers only about pictures, and none came with the question; send one, or set another policy"
)
"""The error of a step that did not ask such a policy."""


@telling
async def reason(
    state: AgentState, runtime: Runtime[Context]
) -> Command[Literal["crop", "image_search", "text_search", "answer", "reason"]]:
    """Serve the next action of the last turn; if there is none, let the policy choose, as long as it has turns left."""
    backends = await backends_of(runtime.context)
    left = in_time(state, backends)
    update: Update = {"dialogue": left.told, "waiting": [actions.dump_action(action) for action in left.waiting]}
    if not left.waiting and not left.told:
        if usage.turn_of(state) >= backends.dialect.limits.turns:  # a caller's command led back here
            return Command(goto="answer")
        update = await think(state, backends, runtime)
    if not update["waiting"]:  # all that the policy asked for was a mistake, or over a limit, and it is told so
        return Command(goto="reason", update=update)
    action, *waiting = update["waiting"]
    goto = _route(actions.load_action(action), backends)
    return Command(goto=goto, update={**update, "action": action, "waiting": waiting})


def _route(action: Action, backends: Backends) -> Literal["crop", "image_search", "text_search", "answer"]:
    match action:
        case SearchByText():
            return "text_search"
        case SearchByImage(region=None):
            return "image_search"
        case SearchByImage() | Crop():
            return "crop"
        case OverLimit(wanted=wanted, stop=stop):
            # The tool's node tells the policy, where the dialect wants that; with no turn left nobody would read it.
            if backends.dialect.over_limit == "tell" and stop is StopReason.SEARCH_LIMIT:
                return "text_search" if isinstance(wanted, SearchByText) else "image_search"
            return "answer"
        case Answer() | GiveUp() | Malformed():
            return "answer"


async def think(state: AgentState, backends: Backends, runtime: Runtime[Context], *, answers: bool = True) -> Update:
    """Call the policy on the dialogue and read its turn. The update holds its message, its step, the action to begin with, and
    all that are `waiting` to be served: none if the policy has to be asked again.

    A policy that fails gives a step with an `error` and no message; a bug in a policy of ours is raised. `answers`: whether
    the answer of this turn is the graph's, to be streamed as it is written.
    """
    steps = this_question(state)
    number = len(usage.policy_turns(steps)) + 1
    policy, tools = await backends.chat(), await backends.tools()
    limit = backends.dialect.limits.price
    priced = any(policy.per_million)
    if limit is not None and ((paid := usage.price_of(steps)) > limit or (priced and paid >= limit)):
        over = PriceSpent(f"${paid:.4f} spent, the limit is ${limit:.4f} (limits.price)")
        return _failed(over, number, 0.0)
    if not state.get("pictures") and getattr(policy.inner, "about_pictures_only", False):
        return _failed(NoPicture(ABOUT_PICTURES), number, 0.0)
    crops = {cut["id"]: cut for step in state.get("steps") or [] if (cut := step.get("crop"))}
    pictures = crops | {picture["id"]: picture for picture in state.get("pictures") or []}
    messages = await by_id(this_dialogue(state), backends.store, backends.sizes, pictures)
    # `nostream`: LangGraph's `messages` mode shows the answer, and no turn with its tags.
    run: RunnableConfig = {"run_name": policy.run_name, "metadata": {"turn": number}, "tags": ["nostream"]}
    live = Live(runtime.stream_writer, number, backends.dialect.growing(), answers=answers)
    started = time.perf_counter()
    try:
        reply = await live.hear(policy, messages, run, stop=backends.dialect.stop or None, **tools)
    except Exception as problem:
        error = _policy_error(problem, backends)
        if error is None:
            raise
        return _failed(error, number, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    text = tool_calls.as_text(reply)
    tokens = _tokens(reply)
    price = _price(reply)
    counts = usage.spent(steps, state["started"], tokens, price)
    kept = tool_calls.sendable(reply)
    agenda = await plan(reply, kept, counts, state, backends)
    asked = [actions.dump_action(action) for action in agenda.actions]
    waiting = [actions.dump_action(action) for action in agenda.waiting]
    thought = backends.dialect.thought(text) or tool_calls.reasoning(reply)
    live.read(thought, next((action.text for action in agenda.waiting if isinstance(action, Answer)), ""))
    step = Step(
        node="reason",
        turn=number,
        seconds=seconds,
        price=price,
        text=text,
        thought=thought,
        action=(waiting or asked)[0],
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        error=None,
    )
    if isinstance(left_out := reply.response_metadata.get("left_out"), list) and left_out:
        step["left_out"] = left_out
    if len(asked) > 1:
        step["actions"] = asked
    return {"dialogue": [kept, *agenda.told], "steps": [step], "action": step["action"], "waiting": waiting}


def _policy_error(problem: Exception, backends: Backends) -> PolicyError | None:
    """The failure that ends the episode. None: the exception is a bug or LangGraph's own signal, to be raised."""
    if isinstance(problem, PolicyError):
        return problem
    if steers(problem) or not backends.foreign_policy:
        return None
    return PolicyError(f"{backends.config.policy.kind}: {named_line(problem, first=True)}")


def _failed(error: PolicyError, turn: int, seconds: float) -> Update:
    step = Step(
        node="reason", turn=turn, seconds=seconds, price=0.0, text="", thought="",
        action=actions.dump_action(Malformed("the policy failed")),
        error=f"{error.reason}: {error}",
    )  # fmt: skip
    if isinstance(error, ContextFull) and error.left_out:
        step["left_out"] = error.left_out
    return {"steps": [step], "action": step["action"], "waiting": [step["action"]]}


def _price(reply: AIMessage) -> float:
    """US dollars that the policy says its turn cost; 0 if it says none, or nothing that can be a price."""
    told = reply.response_metadata.get("price")
    return float(told) if isinstance(told, int | float) and math.isfinite(told) and told > 0 else 0.0


def _tokens(reply: AIMessage) -> tuple[int, int]:
    """Prompt tokens and sampled tokens; 0 and 0 if the policy reports none."""
    counted = reply.usage_metadata
    return (counted["input_tokens"], counted["output_tokens"]) if counted else (0, 0)
