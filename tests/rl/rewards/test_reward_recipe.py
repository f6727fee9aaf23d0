"""A recipe's reward is the rule that it names, on the episode's own calls."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from lensgraph.rl.rewards import formulas
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rewards.matches import MATCHES
from lensgraph.rl.rewards.reward_recipe import RewardRecipe
from lensgraph.rl.rewards.rules import RULES
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStep
from lensgraph.rl.tasks import Task

TASK = Task(id="t", question="How long?", images=(), golds=("3 km",))


def _episode(*nodes: str, answer: str | None = "3 km", error: str | None = None, step: int = 0) -> Trajectory:
    steps = tuple(TrajectoryStep(node, "reason", 1, 0.1, 0.0, hits=(), error=error) for node in nodes)
    return Trajectory(
        id="t#0", task="t", family="", knowledge="", question="How long?", golds=("3 km",), graph="search_agent",
        dialect="compact", policy="", temperature=1.0, answer=answer, well_formed=True, steps=steps, step=step,
    )  # fmt: skip


def _total(recipe: RewardRecipe, episode: Trajectory) -> float | None:
    parts = asyncio.run(EpisodeReward(recipe)(episode, TASK))
    return None if parts is None else parts["total"]


def test_the_penalty_is_taken_once_or_for_every_call() -> None:
    both = _episode("image_search", "text_search")
    assert _total(RewardRecipe(), _episode()) == 1.0
    assert _total(RewardRecipe(), both) == pytest.approx(0.91)
    assert _total(RewardRecipe(per_call_penalty=True), both) == pytest.approx(0.829)
    assert _total(RewardRecipe(), _episode("text_search", answer="4 km")) == pytest.approx(0.1)
    assert _total(RewardRecipe(), _episode(answer=None)) == pytest.approx(0.1)


def test_the_warm_up_follows_the_step() -> None:
    recipe = RewardRecipe(warmup_steps=50)
    assert _total(recipe, _episode("text_search", step=0)) == pytest.approx(1.09)
    assert _total(recipe, _episode("text_search", step=500)) == pytest.approx(0.91)


def test_exact_match_does_not_convert_units() -> None:
    other = _episode(answer="3.0 KM.")
    assert _total(RewardRecipe(match="tolerant"), other) == 1.0
    assert _total(RewardRecipe(match="exact"), other) == pytest.approx(0.1)
    assert _total(RewardRecipe(match="exact"), _episode(answer="3 KM.")) == 1.0


def test_an_episode_whose_tool_was_down_has_no_reward() -> None:
    down = _episode("text_search", error="unavailable: no connection")
    assert _total(RewardRecipe(), down) is None
    assert _total(RewardRecipe(mask_tool_failures=False), down) == pytest.approx(0.91)
    assert _total(RewardRecipe(), _episode("text_search", error="empty: nothing found")) == pytest.approx(0.91)


def test_prices_follow_the_budget() -> None:
    recipe = RewardRecipe(rule="priced", prices={"image_search": 0.2, "text_search": 0.1}, budget=0.05, budget_rate=0.5)
    rule = EpisodeReward(recipe)
    first = rule.score(_episode("text_search"), True).total
    rule.observe(rule.costs([_rewarded("image_search", "text_search")] * 4))
    assert rule.score(_episode("text_search"), True).total < first
    for _ in range(50):
        rule.observe(rule.costs([_rewarded()]))
    assert rule.score(_episode("text_search"), True).total == 1.0


def _rewarded(*nodes: str) -> Trajectory:
    return replace(_episode(*nodes), reward={"total": 1.0})


def test_masked_episodes_do_not_count_towards_the_budget() -> None:
    """Neither one whose tool was down nor one that raised: both would look cheap, and lower the price."""
    recipe = RewardRecipe(rule="priced", prices={"image_search": 0.2, "text_search": 0.1}, budget=0.3, budget_rate=0.5)
    rule = EpisodeReward(recipe)
    down = _episode("text_search", error="unavailable: no connection")
    assert asyncio.run(rule(down, TASK)) is None
    raised = replace(_episode(), error="RuntimeError: x")
    assert rule.costs([_rewarded("image_search", "text_search"), down, raised]) == [pytest.approx(0.3)]
    rule.observe(rule.costs([down, raised]))
    assert rule.state() == {"shadow_price": 1.0}


def test_prices_warm_up_like_the_penalty() -> None:
    """From paying for a search to charging it; a shadow price waits for the end of it."""
    prices = {"image_search": 0.2, "text_search": 0.1}
    recipe = RewardRecipe(rule="priced", prices=prices, warmup_steps=10, format_weight=0.0)
    totals = [_total(recipe, _episode("image_search", step=step)) for step in (0, 5, 10, 500)]
    assert totals == [pytest.approx(value) for value in (1.2, 1.0, 0.8, 0.8)]
    assert _total(recipe, _episode("image_search", answer="4 km", step=0)) == 0.0
    rule = EpisodeReward(recipe.model_copy(update={"budget": 0.1}))
    rule.observe([0.9], step=9)
    assert rule.state() == {"shadow_price": 1.0}
    rule.observe([0.9], step=10)
    assert rule.state()["shadow_price"] > 1.0


def test_more_turns_than_mmsearch_r1_knows_are_malformed() -> None:
    """Its released scorer raises, which would end the episode unrewarded; here the same rules hold, with a format of 0."""
    search = "<reason>r</reason><search><img></search>"
    text, answer = "<reason>r</reason><text_search>q</text_search>", "<reason>r</reason><answer>3 km</answer>"
    recipe = RewardRecipe(rule="mmsearch_r1")
    assert _total(recipe, _spoken("mmsearch_r1", search, text, text, answer)) == pytest.approx(0.81)
    wrong = answer.replace("3 km", "4 km")
    assert _total(recipe, _spoken("mmsearch_r1", search, text, text, wrong)) == 0.0
    assert _total(recipe, _spoken("mmsearch_r1", "no", "no", "no", answer)) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="4 turns"):
        formulas.mmsearch_r1([search, text, text, answer], ["3 km"])


def test_a_shadow_price_is_restored_from_a_checkpoint() -> None:
    recipe = RewardRecipe(rule="priced", prices={"image_search": 0.2, "text_search": 0.1}, budget=0.05)
    rule, again = EpisodeReward(recipe), EpisodeReward(recipe)
    rule.observe([0.3, 0.3])
    again.restore(rule.state())
    assert again.state() == rule.state() != EpisodeReward(recipe).state()
    assert EpisodeReward(RewardRecipe()).state() == {}


def _spoken(dialect: str, *turns: str) -> Trajectory:
    steps = tuple(
        TrajectoryStep("reason", None, n, 0.1, 0.0, text=text, action={"kind": "x"}) for n, text in enumerate(turns, 1)
    )
    return replace(_episode(), dialect=dialect, steps=steps)


def test_the_papers_scorers_read_the_turns() -> None:
    turns = ("<reason>r</reason><search><img></search>", "<reason>r</reason><answer>3 km</answer>")
    recipe = RewardRecipe(rule="mmsearch_r1")
    assert _total(recipe, _spoken("mmsearch_r1", *turns)) == pytest.approx(
        formulas.mmsearch_r1(list(turns), ["3 km"]).total
    )
    assert _total(recipe, _spoken("mmsearch_r1", turns[0], "<answer>3000 m</answer>")) == pytest.approx(
        formulas.mmsearch_r1([turns[0], "<answer>3000 m</answer>"], ["3 km"]).total
    )
    deep = ("<reason>r</reason><answer>3 km</answer>",)
    assert _total(RewardRecipe(rule="deepmmsearch_r1"), _spoken("deepmmsearch_r1", *deep)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="use rule=penalty"):
        _total(recipe, _episode())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rule": "priced"}, "needs reward.prices"),
        ({"rule": "priced", "prices": {"crop": 1}}, "a price each"),
        ({"match": "judge"}, "needs a judge"),
    ],
)
def test_half_a_recipe_is_refused(fields: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EpisodeReward(RewardRecipe(**fields))


@pytest.mark.parametrize("field", ["rule", "match"])
def test_a_name_that_no_table_has_is_refused_with_those_that_it_has(field: str) -> None:
    names = list(RULES if field == "rule" else MATCHES)
    for wrong, says in {
        "halved": f"reward.{field}=halved: use one of {', '.join(names)}, or package.module:function",
        "nowhere.at_all:f": "No module named 'nowhere'; give package.module:function",
        "json:halved": "module 'json' has no attribute 'halved'",
        "json:__name__": "is a str, not a function",
    }.items():
        with pytest.raises(ValidationError, match=re.escape(says)):
            RewardRecipe(**{field: wrong})
    description = RewardRecipe.model_fields[field].description or ""
    assert [name for name in names if f"`{name}`: " not in description] == []


OWN = """
from lensgraph.rl.rewards.formulas import Score

def brief(trajectory, right, options):
    return float(right) - options.search_penalty * len(trajectory.steps)

def whole(trajectory, right, options):
    return Score(total=2.0, match=0.5, format=0.0, searches=7, cost=3.0)

def long_enough(task, answer, judge):
    return None if answer is None else len(answer) > 2

async def never(task, answer, judge):
    return False
"""


def test_a_reward_of_ones_own_is_a_function_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    once = _episode("text_search")
    parts = asyncio.run(EpisodeReward(RewardRecipe(rule="own_rewards:brief"))(once, TASK))
    assert parts == {"total": pytest.approx(0.9), "match": 1.0, "format": 1.0, "searches": 1, "cost": 0.0}
    assert _total(RewardRecipe(rule="own_rewards:brief"), _episode("text_search", answer="4 km")) == pytest.approx(-0.1)
    parts = asyncio.run(EpisodeReward(RewardRecipe(rule="own_rewards:whole"))(once, TASK))
    assert parts == {"total": 2.0, "match": 0.5, "format": 0.0, "searches": 7, "cost": 3.0}
    assert _total(RewardRecipe(match="own_rewards:long_enough"), _episode(answer="anything")) == 1.0
    assert _total(RewardRecipe(match="own_rewards:long_enough"), _episode(answer=None)) is None
    assert _total(RewardRecipe(match="own_rewards:never"), _episode()) == pytest.approx(0.1)


@pytest.mark.parametrize("rule", ["mmsearch_r1", "deepmmsearch_r1"])
def test_an_episode_that_a_length_budget_left_no_turn_of_earns_nothing(rule: str) -> None:
    assert _total(RewardRecipe(rule=rule), replace(_episode(answer=None), dialect=rule, well_formed=False)) == 0.0


def test_every_limit_that_ends_an_episode_is_worth_the_same() -> None:
    """The reward reads the answer and the searches made, and no limit is another's exception."""
    from dataclasses import replace

    from lensgraph.agent.limits import StopReason

    endings = [stop for stop in StopReason if stop.value.endswith("_limit")]
    assert StopReason.PRICE_LIMIT in endings
    episode = _episode("text_search", answer=None)
    for stop in endings:
        assert _total(RewardRecipe(), replace(episode, stop_reason=str(stop))) == pytest.approx(0.1), stop
