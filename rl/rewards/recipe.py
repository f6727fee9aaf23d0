"""The reward of a training run: which rule, with which options, as a recipe names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lensgraph.agent import policy as policies
from lensgraph.agent.config import PolicyConfig
from lensgraph.rl.rewards import formulas as reward
from lensgraph.rl.rewards.formulas import Score, ShadowPrice
from lensgraph.rl.rewards.judge import Judge
from lensgraph.rl.rollout.trajectory import Trajectory
from lensgraph.rl.tasks import Task
from lensgraph.rl.tasks.match import match, normalise


class RewardRecipe(BaseModel):
    """How finished episodes are rewarded."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rule: Literal["penalty", "priced", "mmsearch_r1", "deepmmsearch_r1"] = "penalty"
    """`penalty`: MMSearch-R1's search penalty on whatever the graph executed (0 makes it DeepMMSearch-R1's reward);
    `priced`: a price per call by tool; `mmsearch_r1`, `deepmmsearch_r1`: the papers' scorers, which read the texts of the
    turns in their own protocol. An episode of more than the three turns that MMSearch-R1's knows is malformed to it."""
    match: Literal["exact", "tolerant", "judge"] = "tolerant"
    """When an answer is right: equal to a gold after MMSearch-R1's normalisation; or also in other units, roundings and
    spellings (`lensgraph.rl.tasks.match`); or by the judge."""
    search_penalty: float = Field(default=0.1, ge=-1, le=1)
    """`penalty`: what a search takes off a right answer."""
    per_call_penalty: bool = False
    """`penalty`: once a call instead of once an episode."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the penalty, or the prices, grow from their negative, when searching pays, to their value. A shadow
    price waits for the end of them. Not for `deepmmsearch_r1`, which charges nothing."""
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


class Rewarding(BaseModel):
    """The part of an online recipe that rewards; its other keys are of no matter here."""

    model_config = ConfigDict(extra="ignore")

    reward: RewardRecipe = RewardRecipe()
    """The rule and its options."""
    judge: PolicyConfig | None = None
    """A chat model for `reward.match=judge`."""


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

    @classmethod
    def of(cls, recipe: RewardRecipe, judge: PolicyConfig | None) -> EpisodeReward:
        """The rule with the judge that a recipe names."""
        return cls(recipe, None if judge is None else Judge(policies.build(judge)))

    async def __call__(self, trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        """The reward's parts; None: the episode has no reward."""
        if self.recipe.mask_tool_failures and trajectory.failed_tools():
            return None
        right = await self._right(trajectory, task)
        if right is None:
            return None
        return asdict(self.score(trajectory, right))

    def score(self, trajectory: Trajectory, right: bool) -> Score:
        """The score of an episode whose answer is right or not; MMSearch-R1's scorer judges the answer itself.

        Raises:
            ValueError: the scorer of another dialect than the episode's.
        """
        recipe, calls = self.recipe, trajectory.calls()
        if recipe.rule in ("mmsearch_r1", "deepmmsearch_r1"):
            return self._published(trajectory, right)
        if recipe.rule == "penalty":
            return reward.penalised(
                right,
                trajectory.well_formed,
                sum(calls.values()),
                search_penalty=self._warmed_up(recipe.search_penalty, trajectory),
                format_weight=recipe.format_weight,
                per_call_penalty=recipe.per_call_penalty,
            )
        prices = self.shadow.prices(recipe.prices) if self.shadow else recipe.prices
        return reward.priced(
            right,
            trajectory.well_formed,
            calls,
            prices,
            worth=recipe.worth,
            format_weight=recipe.format_weight,
            charged=self._warmed_up(1.0, trajectory),
        )

    def _published(self, trajectory: Trajectory, right: bool) -> Score:
        recipe, turns = self.recipe, [step.text for step in trajectory.decisions]
        if trajectory.dialect != recipe.rule:
            raise ValueError(
                f"reward.rule={recipe.rule} reads its own dialect, not {trajectory.dialect}; use rule=penalty"
            )
        if not turns:  # a length budget that not even the first turn kept to
            return reward.penalised(False, False, 0, search_penalty=0.0, format_weight=recipe.format_weight)
        if recipe.rule == "deepmmsearch_r1":
            return reward.deepmmsearch_r1(turns, trajectory.golds, right=right, format_weight=recipe.format_weight)
        return reward.mmsearch_r1(
            turns,
            trajectory.golds,
            search_penalty=self._warmed_up(recipe.search_penalty, trajectory),
            format_weight=recipe.format_weight,
            per_call_penalty=recipe.per_call_penalty,
            overlong="malformed",
        )

    def _warmed_up(self, value: float, trajectory: Trajectory) -> float:
        return reward.warmed_up(value, (trajectory.step or 0) + 1, self.recipe.warmup_steps)

    def costs(self, trajectories: Sequence[Trajectory]) -> list[float]:
        """What rewarded episodes cost at the plain prices. One without a reward (a tool was down, the run raised) says
        nothing of what the policy spends, and is left out."""
        prices = self.recipe.prices
        return [
            sum(prices.get(node, 0.0) * n for node, n in one.calls().items())
            for one in trajectories
            if one.reward is not None
        ]

    def observe(self, costs: Sequence[float], step: int | None = None) -> None:
        """Take in what a step's episodes cost, those of all processes: the shadow price follows, once searches are charged
        in full. During a warm-up they are paid for, and what they cost says nothing about the price."""
        if self.shadow is not None and (step is None or step >= self.recipe.warmup_steps):
            self.shadow.observe(costs)

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {} if self.shadow is None else {"shadow_price": self.shadow.factor}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint's state."""
        if self.shadow is not None and "shadow_price" in state:
            self.shadow.factor = state["shadow_price"]

    async def _right(self, trajectory: Trajectory, task: Task) -> bool | None:
        answer = trajectory.answer
        if self.recipe.match == "judge" and self.judge is not None:
            return await self.judge.right(task.question, task.golds, answer)
        if self.recipe.match == "exact":
            return answer is not None and normalise(answer) in {normalise(gold) for gold in task.golds}
        return match(answer, task.golds, task.tolerance)
