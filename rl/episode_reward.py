"""The reward of a training run: which rule, with which options, as a recipe names it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rl import reward
from rl.judge import Judge
from rl.match import match, normalise
from rl.reward import Score, ShadowPrice
from rl.tasks import Task
from rl.trajectory import Trajectory


class RewardRecipe(BaseModel):
    """How finished episodes are rewarded."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rule: Literal["penalty", "priced"] = "penalty"
    """`penalty`: MMSearch-R1's search penalty (0 makes it DeepMMSearch-R1's reward); `priced`: a price per call by tool."""
    match: Literal["exact", "tolerant", "judge"] = "tolerant"
    """When an answer is right: equal to a gold after MMSearch-R1's normalisation; or also in other units, roundings and
    spellings (`rl.match`); or by the judge."""
    search_penalty: float = Field(default=0.1, ge=-1, le=1)
    """`penalty`: what a search takes off a right answer."""
    per_call_penalty: bool = False
    """`penalty`: once a call instead of once an episode."""
    warmup_steps: int = Field(default=0, ge=0)
    """`penalty`: steps over which the penalty grows from its negative, when searching pays, to its value."""
    prices: dict[str, float] = {}
    """`priced`: price of one call by node (`image_search`, `text_search`), in one currency."""
    worth: float = Field(default=1.0, gt=0)
    """`priced`: what a right answer is worth, in that currency."""
    budget: float | None = Field(default=None, gt=0)
    """`priced`: mean cost of an episode to hold; a shadow price then scales the prices. None: prices as they are."""
    budget_rate: float = Field(default=0.1, gt=0)
    """`priced`: how quickly the shadow price follows."""
    format_weight: float = Field(default=0.1, ge=0, le=1)
    """Share of the reward that a well-formed episode earns, right or wrong."""
    mask_tool_failures: bool = True
    """Leave out of the update an episode in which a tool was down or unreadable: it is not the policy's fault."""


class EpisodeReward:
    """The rule of a recipe, with what it remembers: the shadow price."""

    def __init__(self, recipe: RewardRecipe, judge: Judge | None = None) -> None:
        if recipe.match == "judge" and judge is None:
            raise ValueError("reward.match=judge needs a judge; name a chat model in `judge`")
        if recipe.rule == "priced" and not recipe.prices:
            raise ValueError(
                "reward.rule=priced needs reward.prices, for example {image_search: 0.01, text_search: 0.002}"
            )
        unknown = sorted({"image_search", "text_search"} ^ set(recipe.prices)) if recipe.rule == "priced" else []
        if unknown:
            raise ValueError(
                f"reward.prices: image_search and text_search need a price each, and nothing else ({', '.join(unknown)})"
            )
        self.recipe, self.judge = recipe, judge
        self.shadow = ShadowPrice(recipe.budget, recipe.budget_rate) if recipe.budget is not None else None

    async def __call__(self, trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        """The reward's parts; None: the episode has no reward."""
        if self.recipe.mask_tool_failures and trajectory.failed_tools():
            return None
        right = await self._right(trajectory, task)
        if right is None:
            return None
        return asdict(self.score(trajectory, right))

    def score(self, trajectory: Trajectory, right: bool) -> Score:
        """The score of an episode whose answer is right or not."""
        recipe, calls = self.recipe, trajectory.calls()
        if recipe.rule == "penalty":
            return reward.penalised(
                right,
                trajectory.well_formed,
                sum(calls.values()),
                search_penalty=reward.warmed_up(recipe.search_penalty, (trajectory.step or 0) + 1, recipe.warmup_steps),
                format_weight=recipe.format_weight,
                per_call_penalty=recipe.per_call_penalty,
            )
        prices = self.shadow.prices(recipe.prices) if self.shadow else recipe.prices
        return reward.priced(
            right, trajectory.well_formed, calls, prices, worth=recipe.worth, format_weight=recipe.format_weight
        )

    def observe(self, trajectories: list[Trajectory]) -> None:
        """Take in a step's episodes: the shadow price follows what they cost at the plain prices."""
        if self.shadow is not None:
            prices = self.recipe.prices
            self.shadow.observe([sum(prices[node] * n for node, n in t.calls().items()) for t in trajectories])

    async def _right(self, trajectory: Trajectory, task: Task) -> bool | None:
        answer = trajectory.answer
        if self.recipe.match == "judge" and self.judge is not None:
            return await self.judge.right(task.question, task.golds, answer)
        if self.recipe.match == "exact":
            return answer is not None and normalise(answer) in {normalise(gold) for gold in task.golds}
        return match(answer, task.golds, task.tolerance)
