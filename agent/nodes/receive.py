"""The first node: take the question in."""

from __future__ import annotations

import time
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from lensgraph.agent import question
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.images import Picture
from lensgraph.agent.policy.calling.shown import image_blocks
from lensgraph.agent.state import AgentState, Update
from lensgraph.agent.stream import telling

NO_PICTURE = "(No picture came with this question.)"
"""Note to the policy behind a question without a picture."""


@telling
async def receive(state: AgentState, runtime: Runtime[Context]) -> Command[Literal["reason"]]:
    """Put the pictures into the store and open the policy's dialogue."""
    backends = await backends_of(runtime.context)
    update = await take_question(state, backends)
    opening = backends.dialect.first(told(update), unseen(update["pictures"], state, backends))
    return Command(goto="reason", update={**update, "dialogue": [*update["dialogue"], *opening]})


async def take_question(state: AgentState, backends: Backends) -> Update:
    """Read the question and its pictures into the state. The dialogue of an earlier question is closed, and none is opened."""
    asked = await question.take(state, backends.store, backends.config.limits)
    dialogue = state.get("dialogue") or []
    closing = backends.dialect.closing(dialogue)
    restarts = backends.dialect.follow_up == "restart"
    return {
        "messages": [asked.message],
        "dialogue": closing,
        "asked": asked.text,
        "pictures": asked.pictures,
        "first_step": len(state.get("steps") or []),
        "first_message": len(dialogue) + len(closing) if restarts else 0,
        "started": time.time(),
        "approve": sorted(backends.approve),
        "waiting": [],
        "crop": None,
        "note": None,
    }


def told(taken: AgentState | Update) -> str:
    """The question as the policy is told it: one that is about no picture says so, or the policy would imagine one."""
    return str(taken["asked"]) if taken["pictures"] else f"{taken['asked']}\n{NO_PICTURE}"


def unseen(pictures: list[Picture], state: AgentState, backends: Backends) -> list[str]:
    """Ids of the pictures that the policy does not see yet: a follow-up repeats none, unless it opens a new dialogue."""
    if backends.dialect.follow_up == "restart":
        return [picture["id"] for picture in pictures]
    seen = {block["id"] for message in state.get("dialogue") or [] for block in image_blocks(message)}
    return [picture["id"] for picture in pictures if picture["id"] not in seen]
