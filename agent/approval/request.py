"""The question to a person about a call: the value of the graph's interrupt.

Its first two keys are those of LangChain's human in the loop (`HITLRequest`), so that a page which knows these shows it; the
others say what leaves the machine and at what price. Plain JSON, without a byte of a picture.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from lensgraph.agent.config import ApprovalKind
from lensgraph.agent.images import Picture


class ActionRequest(TypedDict):
    """The call that waits."""

    name: ApprovalKind
    """Kind of call."""
    args: dict[str, Any]
    """Fields of `TextArgs` or `RegionArgs`: all that an edit may change."""
    description: str
    """The call in words. They quote the policy: show them as text."""


class ReviewConfig(TypedDict):
    """The decisions that are allowed."""

    action_name: ApprovalKind
    """Kind of call."""
    allowed_decisions: list[Literal["approve", "edit", "reject"]]
    """Values of a decision's `type`."""


class ApprovalRequest(TypedDict):
    """A call that waits for a person."""

    action_requests: list[ActionRequest]
    """The call; always one."""
    review_configs: list[ReviewConfig]
    """Its decisions; always one."""
    price: float
    """US dollars that the call costs at most, as far as its tool says."""
    picture: Picture | None
    """The crop or picture that would be sent: id, size, box and parent. None for words."""
    question: str
    """The question that the call is for."""
    turn: int
    """The policy's turn that asked for it, from 1; 0: the graph did."""


def request(
    kind: ApprovalKind,
    args: dict[str, Any],
    *,
    description: str,
    price: float,
    picture: Picture | None,
    question: str,
    turn: int,
) -> ApprovalRequest:
    """The question about one call."""
    asked = f"{description} (${price:.4f})" if price else description
    return ApprovalRequest(
        action_requests=[ActionRequest(name=kind, args=args, description=asked)],
        review_configs=[ReviewConfig(action_name=kind, allowed_decisions=["approve", "edit", "reject"])],
        price=price,
        picture=picture,
        question=question,
        turn=turn,
    )
