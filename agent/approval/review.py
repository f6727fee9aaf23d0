"""Stop the graph before a call, and go on with the decision of a person.

Invariants: one answer decides one call; a question keeps the approvals that it was asked under, so a caller who leaves them
out on resume does not get past them; nothing is spent before the decision; the time in which a person decides is not the
question's (`limits.seconds`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

from langgraph.checkpoint.base.id import UUID
from langgraph.config import get_config
from langgraph.errors import is_invalid_resume
from langgraph.runtime import Runtime
from langgraph.types import Interrupt, interrupt
from pydantic import ValidationError

from lensgraph.agent import usage
from lensgraph.agent.approval.decision import A, Approve, Edit, Reject, decision_type, unreadable
from lensgraph.agent.approval.request import request
from lensgraph.agent.config import ApprovalKind
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import Picture
from lensgraph.agent.state import AgentState, Update, this_question
from lensgraph.tools.results import ToolError

SCRATCHPAD = "__pregel_scratchpad"
"""LangGraph's key for what a task has been answered; tests hold it to the version in use."""
REJECTED = "a person rejected this"
"""The beginning of the error that the policy is told."""


@dataclass(frozen=True)
class Reviewed(Generic[A]):
    """The call to make, if one may be made."""

    args: A
    """Its arguments, edited or as they were asked for."""
    edited: bool = False
    """True: a person changed them."""
    rejection: ToolError | None = None
    """The error in place of the call. None: it may be made."""
    update: Update = field(default_factory=dict)
    """Fields of the state to write with the result."""


def review(
    kind: ApprovalKind,
    args: A,
    state: AgentState,
    backends: Backends,
    runtime: Runtime[Context],
    *,
    description: str,
    price: float = 0.0,
    picture: Picture | None = None,
    check: Callable[[A], object] = lambda args: None,
) -> Reviewed[A]:
    """The decision about a call, after the graph has waited for it; a call that needs none is approved.

    `price` is in US dollars; `check` raises `ValueError` for edited arguments that cannot be used.

    Raises:
        GraphInterrupt: nobody has decided yet.
        BadInput: the resume value is no decision; the call still waits.
    """
    if kind not in {*backends.approve, *state.get("approve", ())}:
        return Reviewed(args)
    asked = request(
        kind, args.model_dump(mode="json"), description=description, price=price, picture=picture,
        question=state["asked"], turn=usage.turn_of(state),
    )  # fmt: skip
    _refuse_a_used_answer(kind, state, backends, runtime)
    try:
        decision: Any = interrupt(asked, response_schema=decision_type(kind, type(args), check))
    except ValidationError as error:
        if is_invalid_resume(error):
            raise unreadable(error, kind) from None
        raise
    update = {"started": state["started"] + max(0.0, time.time() - _reached(runtime))}
    match decision:
        case Approve():
            return Reviewed(args, update=update)
        case Edit(edited_action=edited):
            return Reviewed(edited.args, edited=True, update=update)
        case Reject(message=message):
            said = f"{REJECTED}: {message}" if message else f"{REJECTED}; ask for something else, or answer"
            return Reviewed(args, rejection=ToolError(reason="rejected", message=said), update=update)
        case _:
            raise TypeError(f"no decision: {decision!r}")


def _refuse_a_used_answer(kind: ApprovalKind, state: AgentState, backends: Backends, runtime: Runtime[Context]) -> None:
    """Within another graph LangGraph keeps an answer without an id at the outer graph's checkpoint, and would give it to the next
    call as well, as soon as the run goes on. So only the first call of a question is decided by such an answer there.

    Raises:
        BadInput: an answer without an id is at hand, which may have decided an earlier call.
    """
    namespace = runtime.execution_info.checkpoint_ns if runtime.execution_info else ""
    kinds = {*backends.approve, *state.get("approve", ())}
    if "|" not in namespace or not any(step["node"] in kinds for step in this_question(state)):
        return
    pad = get_config()["configurable"].get(SCRATCHPAD)
    if pad is None or pad.resume or pad.get_null_resume(True) is None:  # read once a run
        return
    waiting = Interrupt.from_ns(None, namespace).id
    raise BadInput(
        f"The {kind} still waits: within another graph, a further call of a question is decided by its id; give "
        f'Command(resume={{"{waiting}": {{"type": "approve"}}}}).'
    )


def _reached(runtime: Runtime[Context]) -> float:
    """Unix time at which the graph came to this node: the checkpoint before it names it in its id, which is a UUID of version
    6 and counts 100 ns from the beginning of the Gregorian calendar. Now, where the id is another."""
    try:
        identity = UUID(runtime.execution_info.checkpoint_id)  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        return time.time()
    return (identity.time - 0x01B21DD213814000) / 1e7 if identity.version == 6 else time.time()
