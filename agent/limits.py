"""How much an episode may spend, how much it has spent, and why it ended.

Order of the checks: the policy's turn is read first; a search is then held against the turns left (the last turn may
only answer), tokens, the clock, its own kind and all tool calls. What ends the episode comes before what a dialect may
only tell the policy, so that no policy is told anything that it has no turn left to read. An answer is never over a
limit. A search that fails has still been made and counts; so does a region that was not found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal


class StopReason(StrEnum):
    """Why an episode ended."""

    ANSWERED = "answered"
    """The policy wrote an answer. The only ending that can earn a correctness reward."""
    GAVE_UP = "gave_up"
    """The policy wrote that it cannot answer, in the words of its dialect."""
    MALFORMED = "malformed"
    """The last turn could not be read as an action."""
    SEARCH_LIMIT = "search_limit"
    """The policy asked for a search of a kind, or for a tool call, that it had used up."""
    TURN_LIMIT = "turn_limit"
    """The policy asked for a search in its last turn, where it could no longer read the result."""
    TOKEN_LIMIT = "token_limit"
    """The dialogue reached its token budget (counted only if the policy reports token usage), or did not fit the policy's
    context even without thumbnails; then the turn's `error` says so."""
    TIME_LIMIT = "time_limit"
    """The episode's clock ran out before the policy answered."""
    POLICY_FAILED = "policy_failed"
    """The policy could not be reached or returned an error. The turn's `error` says what."""


@dataclass(frozen=True)
class Spent:
    """What the episode has spent when a turn is read. The turn itself is not in it."""

    turns: int = 0
    """Turns the policy has finished before this one."""
    image: int = 0
    """Image searches asked for and not refused, including failed ones and regions that were not found."""
    text: int = 0
    """Text searches made, including failed ones."""
    crops: int = 0
    """Crops made only to look closer."""
    tokens: int = 0
    """Tokens behind the first prompt, this turn included; 0 if the policy does not report them."""
    seconds: float = 0.0
    """Wall clock since the question came in."""


@dataclass(frozen=True)
class Limits:
    """What one episode may spend. `None` means no limit."""

    image: int | None = None
    """Image searches, of the whole picture or of a crop."""
    text: int | None = None
    """Text searches."""
    calls: int | None = None
    """Tool calls of every kind together."""
    turns: int = 12
    """Turns of the policy; the last one may only answer. Never unlimited: a policy may search for ever."""
    tokens: int | None = None
    """Tokens behind the first prompt: the policy's turns and what the tools told it."""
    seconds: float | None = None
    """Wall clock for the whole question; checked before a tool runs."""

    def check(self, kind: Literal["image", "text", "crop"], counts: Spent) -> StopReason | None:
        """Why a tool call of this kind is not allowed now, or None if it is."""
        if counts.turns + 1 >= self.turns:
            return StopReason.TURN_LIMIT
        if self.tokens is not None and counts.tokens >= self.tokens:
            return StopReason.TOKEN_LIMIT
        if self.seconds is not None and counts.seconds >= self.seconds:
            return StopReason.TIME_LIMIT
        own = {"image": (self.image, counts.image), "text": (self.text, counts.text), "crop": (None, 0)}[kind]
        if own[0] is not None and own[1] >= own[0]:
            return StopReason.SEARCH_LIMIT
        if self.calls is not None and counts.image + counts.text + counts.crops >= self.calls:
            return StopReason.SEARCH_LIMIT
        return None

    def with_(self, **changes: int | float | None) -> Limits:
        """These limits with the given ones replaced; a change of None keeps what is here."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]
