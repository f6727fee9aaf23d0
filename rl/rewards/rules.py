"""The reward rules: one function each, and `RULES`, the table of them.

The recipe's `reward.rule`, its error messages and its description derive from the table. A rule is a function

    (trajectory: Trajectory, right: bool, options: RewardRecipe) -> Score | float

where a number is taken as the total. Prices in `options` are those to charge now: a shadow price has scaled them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensgraph.agent.errors import UserError
from lensgraph.rl.rewards import formulas
from lensgraph.rl.rewards.formulas import Score
from lensgraph.rl.rollout.trajectory import Trajectory

if TYPE_CHECKING:
    from lensgraph.rl.rewards.reward_recipe import RewardRecipe

PRICED_TOOLS = ("image_search", "text_search")
"""Nodes whose calls have a price."""


def penalty(trajectory: Trajectory, right: bool, options: RewardRecipe) -> Score:
    """MMSearch-R1's search penalty on the searches that the graph executed; 0 makes it DeepMMSearch-R1's reward."""
    return formulas.penalised(
        right,
        trajectory.well_formed,
        sum(trajectory.calls().values()),
        search_penalty=_warmed_up(options.search_penalty, trajectory, options),
        format_weight=options.format_weight,
        per_call_penalty=options.per_call_penalty,
    )


def priced(trajectory: Trajectory, right: bool, options: RewardRecipe) -> Score:
    """A price per call by tool, charged on right answers."""
    return formulas.priced(
        right,
        trajectory.well_formed,
        trajectory.calls(),
        options.prices,
        worth=options.worth,
        format_weight=options.format_weight,
        charged=_warmed_up(1.0, trajectory, options),
    )


def mmsearch_r1(trajectory: Trajectory, right: bool, options: RewardRecipe) -> Score:
    """MMSearch-R1's released scorer, which reads and judges the texts of the turns in the dialect `mmsearch_r1`.

    An episode of more than the scorer's three turns is malformed.
    """
    turns = _turns(trajectory, "mmsearch_r1")
    if not turns:
        return _nothing_said(options)
    return formulas.mmsearch_r1(
        turns,
        trajectory.golds,
        search_penalty=_warmed_up(options.search_penalty, trajectory, options),
        format_weight=options.format_weight,
        per_call_penalty=options.per_call_penalty,
        overlong="malformed",
    )


def deepmmsearch_r1(trajectory: Trajectory, right: bool, options: RewardRecipe) -> Score:
    """DeepMMSearch-R1's reward, which reads the texts of the turns in the dialect `deepmmsearch_r1`."""
    turns = _turns(trajectory, "deepmmsearch_r1")
    if not turns:
        return _nothing_said(options)
    return formulas.deepmmsearch_r1(turns, trajectory.golds, right=right, format_weight=options.format_weight)


RULES = {rule.__name__: rule for rule in (penalty, priced, mmsearch_r1, deepmmsearch_r1)}
"""Name in a recipe -> the rule. A new rule of this package is a function above and a name here."""
NEEDS_PRICES = ("priced",)
"""Rules for which a recipe must give `reward.prices`."""
OWN_DIALECT = ("mmsearch_r1", "deepmmsearch_r1")
"""Rules that read the texts of the turns, in the dialect of their own name."""


def check_dialect(rule: str, dialect: str) -> None:
    """Refuse a dialect that a rule does not read.

    Raises:
        UserError: the message is one line with the fix.
    """
    if rule in OWN_DIALECT and rule != dialect:
        raise UserError(f"reward.rule={rule} reads its own dialect, not {dialect}; use rule=penalty")


def _turns(trajectory: Trajectory, dialect: str) -> list[str]:
    """The policy's turns as text.

    Raises:
        UserError: they are written in another dialect than the rule reads.
    """
    check_dialect(dialect, trajectory.dialect)
    return [step.text for step in trajectory.decisions]


def _nothing_said(options: RewardRecipe) -> Score:
    """The score of an episode without any turn, because not even the first one fits into the length budget."""
    return formulas.penalised(False, False, 0, search_penalty=0.0, format_weight=options.format_weight)


def _warmed_up(value: float, trajectory: Trajectory, options: RewardRecipe) -> float:
    return formulas.warmed_up(value, (trajectory.step or 0) + 1, options.warmup_steps)
