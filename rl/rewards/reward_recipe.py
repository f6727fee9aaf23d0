"""The reward part of an online recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lensgraph.agent.config import PolicyConfig
from lensgraph.agent.errors import UserError
from lensgraph.rl.rewards.choice import Functions, described, find
from lensgraph.rl.rewards.matches import MATCHES, NEEDS_JUDGE
from lensgraph.rl.rewards.rules import NEEDS_PRICES, PRICED_TOOLS, RULES


def _names(field: str, table: Functions) -> AfterValidator:
    """A check that a value names a function of the table, or one by import path."""

    def checked(name: str) -> str:
        find(field, name, table)
        return name

    return AfterValidator(checked)


class RewardRecipe(BaseModel):
    """The reward of finished episodes: a rule, and its options."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rule: Annotated[str, _names("reward.rule", RULES)] = Field(default="penalty", description=described(RULES))
    match: Annotated[str, _names("reward.match", MATCHES)] = Field(default="tolerant", description=described(MATCHES))
    search_penalty: float = Field(default=0.1, ge=-1, le=1)
    """`penalty`, `mmsearch_r1`: share of a right answer's worth that searching costs."""
    per_call_penalty: bool = False
    """`penalty`, `mmsearch_r1`: charge every call instead of every episode with a call."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the penalty, or the prices, rise from their negative, when searching pays, to their
    value. A shadow price stands still during them. Not for `deepmmsearch_r1`, which charges nothing."""
    prices: dict[str, float] = {}
    """`priced`: price of one call by node (`image_search`, `text_search`), in one currency."""
    worth: float = Field(default=1.0, gt=0)
    """`priced`: worth of a right answer, in the currency of the prices."""
    budget: float | None = Field(default=None, gt=0)
    """`priced`: mean cost of an episode to hold; a shadow price then scales the prices. None: prices stay as
    they are."""
    budget_rate: float = Field(default=0.1, gt=0)
    """`priced`: change of the shadow price a step, relative to how far the mean cost is from the budget."""
    format_weight: float = Field(default=0.1, ge=0, le=1)
    """Share of the reward that a well-formed episode earns, right or wrong."""
    mask_tool_failures: bool = True
    """Leave an episode out of the update if a tool was down or unreadable: it is not the policy's fault."""
    mask_overlong: bool = False
    """Leave an episode out of the update if the length limit ended it, so that nothing is learned from where the limit
    lies (overlong filtering: DAPO, arXiv 2503.14476, section 3.4)."""

    def check(self, *, has_judge: bool) -> None:
        """Refuse a recipe that lacks what its rule or its way of judging needs.

        Raises:
            UserError: the message is one line with the fix.
        """
        if self.match in NEEDS_JUDGE and not has_judge:
            raise UserError(f"reward.match={self.match} needs a judge; name a chat model in `judge`")
        if self.rule not in NEEDS_PRICES:
            return
        if not self.prices:
            raise UserError(
                f"reward.rule={self.rule} needs reward.prices, for example {{image_search: 0.01, text_search: 0.002}}"
            )
        if unknown := sorted(set(PRICED_TOOLS) ^ set(self.prices)):
            raise UserError(
                f"reward.prices: {' and '.join(PRICED_TOOLS)} need a price each, and nothing else ({', '.join(unknown)})"
            )


class Rewarding(BaseModel):
    """The fields of an online recipe that decide rewards; its other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    reward: RewardRecipe = RewardRecipe()
    """The rule and its options."""
    judge: PolicyConfig | None = None
    """A chat model for `reward.match=judge`."""
