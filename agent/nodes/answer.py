"""The last node: the answer or why there is none, its sources and its cost.

Invariant: only this node ends an episode; everything it writes is computed from the steps of the question.
"""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from lensgraph.agent import actions, usage
from lensgraph.agent.actions import Answer, Crop, GiveUp, Malformed, OverLimit, SearchByImage, SearchByText
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.context import Context
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.errors import ContextFull, NoPicture, PriceSpent
from lensgraph.agent.state import AgentState, Step, Update, Usage, this_question
from lensgraph.agent.stream import telling
from lensgraph.tools.runtime import spans

UNANSWERED = {
    StopReason.GAVE_UP: "I could not find the answer.",
    StopReason.MALFORMED: "I have no answer: the policy's last turn could not be read.",
    StopReason.SEARCH_LIMIT: "I have no answer within the allowed searches.",
    StopReason.TURN_LIMIT: "I have no answer within the allowed turns.",
    StopReason.TOKEN_LIMIT: "I have no answer within the allowed tokens.",
    StopReason.TIME_LIMIT: "I have no answer within the allowed time.",
    StopReason.NO_PICTURE: "I have no answer: no picture came with the question, and this policy answers only about pictures.",
    StopReason.PRICE_LIMIT: "I have no answer within the allowed price.",
    StopReason.POLICY_FAILED: "I have no answer: the policy could not be reached.",
}
"""The chat's last message when there is no answer."""
FAILURES = {
    ContextFull.reason: StopReason.TOKEN_LIMIT,
    NoPicture.reason: StopReason.NO_PICTURE,
    PriceSpent.reason: StopReason.PRICE_LIMIT,
}
"""The reason in a step's `error` -> why the episode ended, where that is not `policy_failed`."""


@telling
async def answer(state: AgentState, runtime: Runtime[Context]) -> Update:
    """Close the episode."""
    steps = this_question(state)
    text, stop = outcome(steps)
    sources = usage.sources(steps)
    counts = usage.usage(steps)
    spans.note("invoke_agent", _of_the_span(counts, stop))
    message = AIMessage(
        _unanswered(stop, state) if text is None else text,
        response_metadata={"stop_reason": str(stop), "sources": sources},
    )
    return {
        "messages": [message],
        "answer": text,
        "sources": sources,
        "usage": counts,
        "stop_reason": str(stop),
    }


def _of_the_span(counts: Usage, stop: StopReason) -> dict[str, str | int | float]:
    """Attributes of the agent's span: the cost of the whole question, and why it ended."""
    return {
        "gen_ai.usage.input_tokens": counts["tokens"]["in"],
        "gen_ai.usage.output_tokens": counts["tokens"]["out"],
        spans.PRICE: sum(counts["price"].values()),
        "lensgraph.stop_reason": str(stop),
    }


def _unanswered(stop: StopReason, state: AgentState) -> str:
    """The chat's last message when there is no answer; of a turn that could not be read also why, if that is known."""
    said = state.get("dialogue")
    why = ""
    if stop is StopReason.MALFORMED and said and isinstance(said[-1], AIMessage):
        why = tool_calls.cut_short(said[-1])
    return f"{UNANSWERED[stop].removesuffix('.')} ({why})." if why else UNANSWERED[stop]


def outcome(steps: list[Step]) -> tuple[str | None, StopReason]:
    """The answer, None if there is none, and why the episode ended."""
    last = usage.policy_turns(steps)[-1]
    if error := last.get("error"):
        return None, FAILURES.get(error.partition(":")[0], StopReason.POLICY_FAILED)
    match min(map(actions.load_action, usage.actions_of(last)), key=_rank):
        case Answer(text=text):
            return text, StopReason.ANSWERED
        case GiveUp():
            return None, StopReason.GAVE_UP
        case OverLimit(stop=stop):
            return None, stop
        case Malformed():
            return None, StopReason.MALFORMED
        case SearchByText() | SearchByImage() | Crop():  # a baseline was asked to answer and searched instead
            return None, StopReason.SEARCH_LIMIT


def _rank(action: actions.Action) -> int:
    """The place of an action among those of the last turn that may have ended the episode."""
    match action:
        case Answer() | GiveUp():
            return 0
        case OverLimit(stop=stop):
            return 2 if stop is StopReason.SEARCH_LIMIT else 1
        case Malformed():
            return 3
    return 4
