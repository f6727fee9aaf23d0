"""What a question cost and what it rests on, counted from its turns.

Invariant: nothing is counted twice or kept beside the turns; counts, usage and sources are functions of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from lensgraph.agent.limits import Counts
from lensgraph.agent.state import Source, Turn, Usage


def policy_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The turns in which the policy spoke."""
    return [turn for turn in turns if "action" in turn]


def spent(turns: Sequence[Turn], started: float, tokens: tuple[int, int]) -> Counts:
    """What was spent before the policy's newest turn, whose `tokens` (prompt, sampled) count already."""
    spoken = policy_turns(turns)
    kinds = Counter(turn["action"]["kind"] for turn in spoken)
    first_prompt = spoken[0].get("tokens_in", 0) if spoken else tokens[0]
    return Counts(
        turns=len(spoken),
        image=kinds["image_search"],
        text=kinds["text_search"],
        crops=kinds["crop"],
        tokens=max(0, sum(tokens) - first_prompt),
        seconds=time.time() - started,
    )


def usage(turns: Sequence[Turn]) -> Usage:
    """Turns, searches, seconds, price and tokens of a question."""
    seconds: Counter[str] = Counter()
    price: Counter[str] = Counter()
    for turn in turns:
        seconds[turn["node"]] += turn.get("seconds", 0.0)  # type: ignore[assignment]
        price[turn["node"]] += turn.get("price", 0.0)  # type: ignore[assignment]
    made = Counter(turn["node"] for turn in turns if "hits" in turn)
    return Usage(
        turns=len(policy_turns(turns)),
        searches={"image": made["image_search"], "text": made["text_search"]},
        seconds={node: round(value, 6) for node, value in seconds.items()},
        price=dict(price),
        tokens={
            "in": sum(turn.get("tokens_in", 0) for turn in turns),
            "out": sum(turn.get("tokens_out", 0) for turn in turns),
        },
    )


def sources(turns: Sequence[Turn]) -> list[Source]:
    """Each page that the policy was shown, once, with the turn that asked for it first."""
    found: dict[str, Source] = {}
    for turn in turns:
        for hit in turn.get("hits", []):
            found.setdefault(hit["url"] or hit["title"], Source(title=hit["title"], url=hit["url"], turn=turn["turn"]))
    return list(found.values())
