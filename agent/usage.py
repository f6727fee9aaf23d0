"""The cost and the sources of a question, counted from its steps.

Invariant: nothing is counted twice or kept beside the steps; counts, usage and sources are functions of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lensgraph.agent.actions import Action, Crop, SearchByImage, SearchByText
from lensgraph.agent.limits import Spent, behind_first_prompt
from lensgraph.agent.state import AgentState, Source, Step, Usage, this_question


def policy_turns(steps: Sequence[Step]) -> list[Step]:
    """The steps in which the policy spoke: its turns."""
    return [step for step in steps if "action" in step]


def actions_of(step: Step) -> list[dict[str, Any]]:
    """Everything that a turn asked for, in its order."""
    return step.get("actions") or [step["action"]]


def faults(step: Step) -> list[str]:
    """The reasons why a turn, or single calls in it, could not be read; empty if all could, or if the step is no turn."""
    asked = actions_of(step) if "action" in step and not step.get("error") else []
    return [action["reason"] for action in asked if action["kind"] == "malformed"]


def turn_of(state: AgentState) -> int:
    """The number of the policy's last turn in the current question, from 1; 0 before its first."""
    return len(policy_turns(this_question(state)))


def spent(steps: Sequence[Step], started: float, tokens: tuple[int, int], price: float = 0.0) -> Spent:
    """The counts before the policy's newest turn, whose `tokens` (prompt, sampled) and `price` are already in them."""
    spoken = policy_turns(steps)
    rejected = Counter(_asked_as(step) for step in steps if (step.get("error") or "").startswith("rejected:"))
    kinds = Counter(action["kind"] for step in spoken for action in actions_of(step)) - rejected
    first_prompt = spoken[0].get("tokens_in", 0) if spoken else tokens[0]
    return Spent(
        turns=len(spoken),
        image=kinds["image_search"],
        text=kinds["text_search"],
        crops=kinds["crop"],
        tokens=max(0, behind_first_prompt(first_prompt, *tokens)),
        # At least the time waited for the policy and the tools: the clock may have been set back.
        seconds=max(time.time() - started, sum(step.get("seconds", 0.0) for step in steps)),
        price=price_of(steps) + price,
    )


def _asked_as(step: Step) -> str:
    """The kind of the action whose call this step records."""
    return "image_search" if step.get("to_search") else step["node"]


def counted(counts: Spent, action: Action) -> Spent:
    """The counts with a call that is about to be made."""
    match action:
        case SearchByImage():
            return replace(counts, image=counts.image + 1)
        case SearchByText():
            return replace(counts, text=counts.text + 1)
        case Crop():
            return replace(counts, crops=counts.crops + 1)
    return counts


def made(steps: Sequence[Step]) -> Spent:
    """The counts of the calls that were carried out, whoever asked for them. Steps that were refused are not in them."""
    searched = Counter(step["node"] for step in steps if "hits" in step)
    looked = [step for step in steps if "crop" in step and step["node"] == "crop" and not step.get("to_search")]
    return Spent(image=searched["image_search"], text=searched["text_search"], crops=len(looked), price=price_of(steps))


def price_of(steps: Sequence[Step]) -> float:
    """US dollars of all steps."""
    return sum(max(0.0, step.get("price", 0.0)) for step in steps)


def usage(steps: Sequence[Step]) -> Usage:
    """Turns, searches, seconds, price and tokens of a question."""
    seconds: Counter[str] = Counter()
    price: Counter[str] = Counter()
    for step in steps:
        seconds[step["node"]] += step.get("seconds", 0.0)  # type: ignore[assignment]
        price[step["node"]] += step.get("price", 0.0)  # type: ignore[assignment]
    made = Counter(step["node"] for step in steps if "hits" in step)
    return Usage(
        turns=len(policy_turns(steps)),
        searches={"image": made["image_search"], "text": made["text_search"]},
        seconds={node: round(value, 6) for node, value in seconds.items()},
        price=dict(price),
        tokens={
            "in": sum(step.get("tokens_in", 0) for step in steps),
            "out": sum(step.get("tokens_out", 0) for step in steps),
        },
    )


def sources(steps: Sequence[Step]) -> list[Source]:
    """Each page that the policy was shown, once, with the turn that asked for it first."""
    found: dict[str, Source] = {}
    for step in steps:
        for hit in step.get("hits", []):
            found.setdefault(hit["url"] or hit["title"], Source(title=hit["title"], url=hit["url"], turn=step["turn"]))
    return list(found.values())
