"""The reward of a run: applies the rule that a recipe names, and keeps the shadow price."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from lensgraph.agent import policy as policies
from lensgraph.agent.config import PolicyConfig
from lensgraph.agent.limits import StopReason
from lensgraph.rl.rewards.choice import find
from lensgraph.rl.rewards.formulas import Score, ShadowPrice
from lensgraph.rl.rewards.judge import Judge
from lensgraph.rl.rewards.matches import MATCHES
from lensgraph.rl.rewards.reward_recipe import RewardRecipe
from lensgraph.rl.rewards.rules import RULES, check_dialect
from lensgraph.rl.rollout.trajectory import Trajectory
from lensgraph.rl.tasks import Task


class EpisodeReward:
    """The reward that a recipe describes. Its state, the shadow price, belongs into checkpoints."""

    def __init__(self, recipe: RewardRecipe, judge: Judge | None = None) -> None:
        """
        Raises:
            ValueError: the recipe lacks what its rule needs.
        """
        recipe.check(has_judge=judge is not None)
        self.recipe, self.judge = recipe, judge
        self.rule, self.match = find("reward.rule", recipe.rule, RULES), find("reward.match", recipe.match, MATCHES)
        self.shadow = ShadowPrice(recipe.budget, recipe.budget_rate) if recipe.budget is not None else None

    @classmethod
    def of(cls, recipe: RewardRecipe, judge: PolicyConfig | None) -> EpisodeReward:
        """The reward with the judge that an online recipe names."""
        return cls(recipe, None if judge is None else Judge(policies.build(judge)))

    def check_dialect(self, dialect: str) -> None:
        """Refuse a dialect that the rule does not read.

        Raises:
            UserError: the message is one line with the fix.
        """
        check_dialect(self.recipe.rule, dialect)

    async def __call__(self, trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        """The parts of an episode's reward with their `total`; None: the episode has no reward."""
        if self.recipe.mask_tool_failures and trajectory.failed_tools():
            return None
        if self.recipe.mask_overlong and trajectory.stop_reason == StopReason.TOKEN_LIMIT.value:
            return None
        said = self.match(task, trajectory.answer, self.judge)
        right = await said if inspect.isawaitable(said) else said
        return None if right is None else asdict(self.score(trajectory, right))

    def score(self, trajectory: Trajectory, right: bool) -> Score:
        """The score of an episode whose answer is right or not.

        Raises:
            ValueError: the rule reads another dialect than the episode's.
        """
        options = self.recipe
        if self.shadow is not None:
            options = options.model_copy(update={"prices": self.shadow.prices(options.prices)})
        score = self.rule(trajectory, right, options)
        if isinstance(score, Score):
            return score
        return Score(float(score), float(right), float(trajectory.well_formed), sum(trajectory.calls().values()))

    def costs(self, trajectories: Sequence[Trajectory]) -> list[float]:
        """Costs of the rewarded episodes at the plain prices.

        An episode without a reward (a tool was down, the run raised) says nothing about what the policy spends.
        """
        prices = self.recipe.prices
        return [
            sum(prices.get(node, 0.0) * n for node, n in one.calls().items())
            for one in trajectories
            if one.reward is not None
        ]

    def observe(self, costs: Sequence[float], step: int | None = None) -> None:
        """Move the shadow price by the costs of a step's episodes, those of all processes.

        During a warm-up it stands still: searches are paid for then, and their costs say nothing about the
        price.
        """
        if self.shadow is not None and (step is None or step >= self.recipe.warmup_steps):
            self.shadow.observe(costs)

    def state(self) -> dict[str, float]:
        """The state that a checkpoint must hold."""
        return {} if self.shadow is None else {"shadow_price": self.shadow.factor}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint's state."""
        if self.shadow is not None and "shadow_price" in state:
            self.shadow.factor = state["shadow_price"]
