"""The equations of rewards, as plain functions that can be read, tested and swapped without a trainer.

Three families:

- `mmsearch_r1`: outcome reward with a search penalty on right answers (arXiv 2506.20670, eq. 1, and its
  released scorer);
- `deepmmsearch_r1`: outcome by a judge or by rules, plus format, no penalty (arXiv 2510.12801, section 3.2);
- `priced`: a price per call by tool, in one currency, charged on right answers only, with an optional budget.

Every one returns a `Score`. Right answers are charged and wrong ones are not: a charge on wrong answers would
teach the policy to give up early on hard questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lensgraph.agent.dialects.table import build
from lensgraph.rl.rewards import judge_rules
from lensgraph.rl.tasks.match import normalise

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_IMAGE = "<search><img></search>"
_MOST_TURNS = 3


@dataclass(frozen=True)
class Score:
    """A reward and its parts."""

    total: float
    """The number that training maximises."""
    match: float
    """1: the answer is right. 0: it is not."""
    format: float
    """1: every turn keeps the protocol. 0: some turn does not."""
    searches: int
    """Number of searches that the reward counted."""
    cost: float = 0.0
    """Cost of the searches, in the currency of the prices; 0 for a reward without prices."""


def penalised(
    right: bool,
    well_formed: bool,
    searches: int,
    *,
    search_penalty: float = 0.1,
    format_weight: float = 0.1,
    per_call_penalty: bool = False,
) -> Score:
    """MMSearch-R1's formula on any episode, whatever its protocol.

    A right answer is worth 1, or `1 - search_penalty` if anything was searched; with `per_call_penalty` that
    factor counts once a search. The total is `(1 - format_weight) * outcome + format_weight * format`.

    Raises:
        ValueError: the weight is not between 0 and 1, the penalty not between -1 and 1 (a warm-up begins by
            rewarding searches), or `searches` is negative.
    """
    if not -1 <= search_penalty <= 1:
        raise ValueError(f"search_penalty is {search_penalty}; it must be between -1 and 1")
    if not 0 <= format_weight <= 1:
        raise ValueError(f"format_weight is {format_weight}; it must be between 0 and 1")
    if searches < 0:
        raise ValueError(f"searches is {searches}; it cannot be negative")
    outcome = float(right)
    if right and searches:
        outcome *= (1 - search_penalty) ** (searches if per_call_penalty else 1)
    total = (1 - format_weight) * outcome + format_weight * float(well_formed)
    return Score(total, float(right), float(well_formed), searches)


def mmsearch_r1(
    turns: Sequence[str],
    golds: str | Iterable[str],
    *,
    search_penalty: float = 0.1,
    format_weight: float = 0.1,
    per_call_penalty: bool = False,
    substring: bool = False,
    overlong: Literal["refused", "malformed"] = "refused",
) -> Score:
    """The released scorer of MMSearch-R1 on the texts of one to three turns of its protocol.

    The answer is taken from the last turn and compared after normalisation. Searches are counted by their
    tags, executed or not, in every turn but the last of several.

    Args:
        turns: Texts of the policy's turns.
        golds: Accepted answers.
        search_penalty: See `penalised`.
        format_weight: See `penalised`.
        per_call_penalty: See `penalised`.
        substring: Accept an answer that contains a gold (the paper's `SubEM`).
        overlong: More than three turns raise, as in the released scorer (`refused`), or are scored by the
            same rules with a format of 0 (`malformed`).

    Raises:
        ValueError: no turns, or more than three that are `refused`.
    """
    too_long = len(turns) > _MOST_TURNS
    if not turns or (too_long and overlong == "refused"):
        raise ValueError(f"{len(turns)} turns; MMSearch-R1's scorer takes 1 to {_MOST_TURNS}")
    answers = _ANSWER.findall(turns[-1])
    right = bool(answers) and _equals(answers[-1].strip(), golds, substring)
    asking = turns[: max(1, len(turns) - 1)]
    searches = sum(_IMAGE in turn or ("<text_search>" in turn and "</text_search>" in turn) for turn in asking)
    return penalised(
        right,
        not too_long and build("mmsearch_r1").well_formed(turns),
        searches,
        search_penalty=search_penalty,
        format_weight=format_weight,
        per_call_penalty=per_call_penalty,
    )


def _equals(answer: str, golds: str | Iterable[str], substring: bool) -> bool:
    given = normalise(answer)
    golds = [golds] if isinstance(golds, str) else golds  # as the released scorer; its letters are no golds
    wanted = [normalise(gold) for gold in golds if isinstance(gold, str)]
    return any(gold in given for gold in wanted) if substring else given in wanted


def deepmmsearch_r1(
    turns: Sequence[str],
    golds: str | Iterable[str],
    *,
    right: bool | None = None,
    format_weight: float = 0.1,
    limits: Mapping[str, int | float | None] | None = None,
) -> Score:
    """DeepMMSearch-R1's reward: `(1 - format_weight) * outcome + format_weight * format`, no search penalty.

    Args:
        turns: Texts of the policy's turns.
        golds: Accepted answers.
        right: Verdict of a judge (`lensgraph.rl.rewards.judge`). None: the answer that closes the last turn
            is compared with the golds by the judge's rules that need no model
            (`lensgraph.rl.rewards.judge_rules`).
        format_weight: Share of the reward that the format earns.
        limits: Values that replace single limits of the protocol.

    Raises:
        ValueError: no turns.
    """
    if not turns:
        raise ValueError("no turns; an episode has at least one")
    well_formed = build("deepmmsearch_r1", limits=limits).well_formed(turns)
    answer = answer_of(turns[-1])
    if right is None:
        right = judge_rules.right(answer, [golds] if isinstance(golds, str) else golds)
    searches = sum("</img_search>" in turn or "</text_search>" in turn for turn in turns[:-1])
    return penalised(
        right and answer is not None, well_formed, searches, search_penalty=0.0, format_weight=format_weight
    )


def answer_of(turn: str) -> str | None:
    """The text inside the answer tags that close a turn; None: no answer closes it."""
    closing = re.search(r"<answer>((?:(?!<answer>).)*)</answer>$", turn.strip(), re.DOTALL)
    return closing[1].strip() if closing else None


def priced(
    right: bool,
    well_formed: bool,
    calls: Mapping[str, int],
    prices: Mapping[str, float],
    *,
    worth: float = 1.0,
    format_weight: float = 0.1,
    charged: float = 1.0,
) -> Score:
    """The worth of a right answer minus the cost of its calls, at least 0.

    The outcome of a right answer is `max(0, 1 - charged * cost / worth)`. All prices are in one currency
    (money, or seconds of waiting).

    Args:
        right: The answer is right.
        well_formed: Every turn keeps the protocol.
        calls: Executed calls by tool.
        prices: Price of one call by tool.
        worth: Worth of a right answer.
        format_weight: Share of the reward that the format earns.
        charged: Share of the prices that is charged, from -1, when a warm-up begins by paying for searches,
        to 1.

    Raises:
        ValueError: a tool that was called has no price, a price is negative, `worth` is not positive, or
            `charged` is not between -1 and 1.
    """
    unknown = sorted(set(calls) - set(prices))
    if unknown:
        raise ValueError(f"no price for {', '.join(unknown)}; prices has {', '.join(sorted(prices)) or 'none'}")
    negative = {tool: price for tool, price in prices.items() if price < 0}
    if negative:
        raise ValueError(f"prices cannot be negative: {negative}")
    if worth <= 0:
        raise ValueError(f"worth is {worth}; a right answer must be worth something")
    if not -1 <= charged <= 1:
        raise ValueError(f"charged is {charged}; it must be between -1 and 1")
    if not 0 <= format_weight <= 1:
        raise ValueError(f"format_weight is {format_weight}; it must be between 0 and 1")
    cost = sum(count * prices[tool] for tool, count in calls.items())
    outcome = max(0.0, 1 - charged * cost / worth) if right else 0.0
    total = (1 - format_weight) * outcome + format_weight * float(well_formed)
    return Score(total, float(right), float(well_formed), sum(calls.values()), cost)


def warmed_up(search_penalty: float, step: int, warmup_steps: int) -> float:
    """The penalty at a training step: it rises from `-search_penalty` at step 1, when searching pays, to
    `search_penalty`.

    This is MMSearch-R1's `search_penalty_warmup_steps`; 0 steps mean no warm-up.

    Raises:
        ValueError: steps are counted from 1.
    """
    if step < 1:
        raise ValueError(f"step is {step}; steps are counted from 1")
    if warmup_steps <= 0:
        return search_penalty
    return -search_penalty + 2 * search_penalty * min((step - 1) / warmup_steps, 1.0)


@dataclass
class ShadowPrice:
    """The factor on all prices that keeps the mean cost of an episode at a budget.

    Dual ascent on the constraint "mean cost at most `budget`": the factor rises while episodes cost more and
    falls while they cost less. `factor` is part of a run's state and belongs into its checkpoints.
    """

    budget: float
    """Wanted mean cost of an episode, in the currency of the prices."""
    rate: float = 0.1
    """Change of the factor a step, for a mean cost of twice the budget."""
    factor: float = 1.0
    """Factor on all prices."""

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise ValueError(f"budget is {self.budget}; it must be positive")

    def observe(self, costs: Sequence[float]) -> float:
        """Move the factor by the costs of a step's episodes at the plain prices; the new factor."""
        if costs:
            over = sum(costs) / len(costs) / self.budget - 1
            self.factor = max(0.0, self.factor + self.rate * over)
        return self.factor

    def prices(self, prices: Mapping[str, float]) -> dict[str, float]:
        """The prices to charge now."""
        return {tool: self.factor * price for tool, price in prices.items()}
