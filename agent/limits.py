"""The limits of an episode, how long its dialogue may be, and why it ended.

A dialogue meets these bounds, from the first to the last:

1. `Limits.turns`: turns of the policy. A search in the last turn ends the episode (`turn_limit`).
2. `Limits.tokens`: tokens behind the first prompt, if the policy reports them. A result is shortened to the tokens left
   before the policy is told (`nodes/token_budget.py`); once none is left, a tool call ends the episode (`token_limit`).
3. The policy's context, its prompt included (`context_problem`; a server says itself that a dialogue does not fit).
   Thumbnails are left out first, the oldest before the others; then the episode ends (`token_limit`).
   `context_needed` says how large a server's context must be for 1 and 2.
4. In training, `max_tokens` of the recipe: tokens of the row, first prompt included. The episode ends behind the last
   turn that fits (`rl/rollout/length_budget.py`); the graph is not stopped.

1 and 2 come from the dialect, where the settings `limits.*` do not replace them. The `Context` of a run may lower them.

Order of the checks: the policy's turn is read first; a search is then held against the turns left (the last turn may
only answer), tokens, the clock, the price, its own kind and all tool calls. A limit that ends the episode comes before
one that a dialect may only tell the policy, so that no policy is told anything that it has no turn left to read. The
node that makes a call counts the calls that were made and checks price, kind and all calls once more, so that nothing
that a caller sends spends past a limit (`nodes/spending.py`). Of several calls in one turn each is held against the
limits as if those before it had been made, and against the clock when its turn comes (`nodes/agenda.py`). An answer is
never over a limit. A search that fails has still been made and counts; so does a region that was not found. A call
that a person rejects was not made and does not count; the turn that asked for it does, so that a policy which asks
again and again comes to an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

FIRST_PROMPT = 4096
"""Tokens of the first prompt, one picture included: what MMSearch-R1 allows."""
DIALOGUE = 8192
"""Tokens behind the first prompt to reserve where the limits set none: what both papers allow."""
CONTEXT_STEP = 1024
"""A server's context is rounded up to a multiple of this many tokens."""


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
    NO_PICTURE = "no_picture"
    """The question came without a picture, and the policy answers only about pictures (`about_pictures_only`)."""
    PRICE_LIMIT = "price_limit"
    """The policy asked for a tool whose price would have taken the question over `limits.price`, or the money was spent
    already."""
    POLICY_FAILED = "policy_failed"
    """The policy could not be reached or returned an error. The turn's `error` says what."""


@dataclass(frozen=True)
class Spent:
    """The counts of an episode when a turn is read. The turn itself is not in it."""

    turns: int = 0
    """Turns the policy has finished before this one."""
    image: int = 0
    """Image searches asked for and neither refused nor rejected, including failed ones and regions that were not found."""
    text: int = 0
    """Text searches made, including failed ones."""
    crops: int = 0
    """Crops made only to look closer."""
    tokens: int = 0
    """Tokens behind the first prompt, this turn included; 0 if the policy does not report them."""
    seconds: float = 0.0
    """Wall clock since the question came in."""
    price: float = 0.0
    """US dollars of the policy's turns and the tools' calls, and of the call that is asked for, as far as known."""


@dataclass(frozen=True)
class Limits:
    """Limits of one episode. `None` means no limit."""

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
    price: float | None = None
    """US dollars for the whole question; checked before a tool runs, its price included."""

    def check(self, kind: Literal["image", "text", "crop"], counts: Spent) -> StopReason | None:
        """Why a tool call of this kind is not allowed now, or None if it is."""
        if counts.turns + 1 >= self.turns:
            return StopReason.TURN_LIMIT
        if self.tokens is not None and counts.tokens >= self.tokens:
            return StopReason.TOKEN_LIMIT
        if self.seconds is not None and counts.seconds >= self.seconds:
            return StopReason.TIME_LIMIT
        return self.check_made(kind, counts)

    def check_made(self, kind: Literal["image", "text", "crop"], counts: Spent) -> StopReason | None:
        """As `check`, by the number of calls and their price alone: the node that makes the call asks again."""
        if self.price is not None and counts.price > self.price:
            return StopReason.PRICE_LIMIT
        own = {"image": (self.image, counts.image), "text": (self.text, counts.text), "crop": (None, 0)}[kind]
        if own[0] is not None and own[1] >= own[0]:
            return StopReason.SEARCH_LIMIT
        if self.calls is not None and counts.image + counts.text + counts.crops >= self.calls:
            return StopReason.SEARCH_LIMIT
        return None

    def with_(self, **changes: int | float | None) -> Limits:
        """These limits with the given ones replaced; a change of None keeps what is here."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]


def behind_first_prompt(first_prompt: int, prompt: int, sampled: int) -> int:
    """Tokens of a dialogue behind its first prompt, after a turn with this prompt and this many sampled tokens."""
    return prompt + sampled - first_prompt


def context_problem(tokens: int, context: int, *, room: int = 0, policy: str = "the policy") -> str | None:
    """Why a dialogue of so many tokens does not fit into a context that must keep `room` tokens free. None: it fits."""
    if tokens + room <= context:
        return None
    return (
        f"a dialogue of {tokens} tokens is over the {context} of {policy}; "
        "ask a shorter question, or lower limits.turns or images.view_pixels"
    )


def context_needed(limits: Limits, *, pictures: int, turn: int) -> int:
    """Tokens of context that the longest dialogue within these limits needs.

    `pictures` are the tokens of all pictures but the first prompt's own: a limit is checked before a search and not for
    every picture, so they may come on top. `turn` is the longest turn of the policy, in tokens.
    """
    needed = FIRST_PROMPT + (limits.tokens or DIALOGUE) + pictures + turn
    return -(-needed // CONTEXT_STEP) * CONTEXT_STEP
