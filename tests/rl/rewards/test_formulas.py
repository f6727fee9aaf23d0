"""Rewards agree with every row of the papers' tables, and prices are charged on right answers only."""

from __future__ import annotations

import random

import pytest

from lensgraph.agent.dialects.tags import GIVE_UP
from lensgraph.rl.rewards.formulas import ShadowPrice, deepmmsearch_r1, mmsearch_r1, penalised, priced, warmed_up

R, I, T = "<reason>r</reason>", "<search><img></search>", "<text_search>q</text_search>"  # noqa: E741
A, W = "<answer>Titanic</answer>", "<answer>Olympic</answer>"
MMSEARCH_ROWS = [
    ([R + A], 1, 0, 1.00),
    ([R + W], 1, 0, 0.10),
    ([A], 0, 0, 0.90),
    ([f"{R} so {A}"], 1, 0, 1.00),
    ([f"{R}{A}."], 0, 0, 0.90),
    ([f"{R}{A}\n"], 1, 0, 1.00),
    ([f"x {R}{A}"], 0, 0, 0.90),
    ([R + R + A], 0, 0, 0.90),
    ([R + W + A], 0, 0, 0.90),
    ([f"<reason>{A}</reason>"], 0, 0, 0.90),
    ([f"{R}<answer>The TITANIC!</answer>"], 1, 0, 1.00),
    ([f"{R}<answer>Titanic"], 0, 0, 0.00),
    ([f"{R}<answer></answer>"], 1, 0, 0.10),
    ([""], 0, 0, 0.00),
    ([f"<Reason>r</Reason>{A}"], 0, 0, 0.90),
    ([f"<reason>r1\nr2</reason>\n\n{A}"], 1, 0, 1.00),
    ([R + I, R + A], 1, 1, 0.91),
    ([R + I, R + W], 1, 1, 0.10),
    ([I, R + A], 0, 1, 0.81),
    ([R + T, R + A], 1, 1, 0.91),
    ([R + I, R + T, R + A], 1, 2, 0.91),
    ([R + I, R + T, R + W], 1, 2, 0.10),
    ([R + I, R + T, A], 0, 2, 0.81),
    ([R + T, R + T, R + A], 0, 2, 0.81),
    ([R + T, R + I, R + A], 0, 2, 0.81),
    ([R + I, R + I], 0, 1, 0.00),
    ([R + I, R + T, R + T], 0, 2, 0.00),
    ([R + A + T, R + A], 0, 1, 0.81),
    ([R + A + I, R + A], 0, 1, 0.81),
    ([R + I, R + GIVE_UP], 0, 1, 0.00),
    ([R + I, f"{R}<answer>{GIVE_UP}</answer>"], 1, 1, 0.10),
    ([f"{R}{I}."], 0, 1, 0.00),
    ([f"{R}{I} "], 0, 1, 0.00),
    ([f"{R}{I}\n", R + A], 1, 1, 0.91),
    ([f"{R}{T}\n\n"], 0, 1, 0.00),
    ([f"{R}<text_search>a\nb</text_search>"], 0, 1, 0.00),
    ([f"{R}<text_search></text_search>"], 0, 1, 0.00),
    ([f"{R}<text_search> </text_search>", R + A], 1, 1, 0.91),
    ([f"{R}<text_search>a</text_search><text_search>b</text_search>", R + A], 0, 1, 0.81),
    ([R + T + I, R + A], 0, 1, 0.81),
    ([R + I + T, R + A], 0, 1, 0.81),
    ([R + I + A], 0, 1, 0.81),
    ([f"<reason>r{I}</reason>{A}"], 0, 1, 0.81),
    ([f"<reason>r <text_search></reason>{A}"], 0, 0, 0.90),
]
"""Turns, format, searches and reward of the released scorer, gold `Titanic`."""


@pytest.mark.parametrize(("turns", "well_formed", "searches", "total"), MMSEARCH_ROWS)
def test_mmsearch_r1_agrees_with_the_released_scorer(
    turns: list[str], well_formed: int, searches: int, total: float
) -> None:
    score = mmsearch_r1(turns, ["Titanic"])
    assert (score.format, score.searches, round(score.total, 4)) == (well_formed, searches, total)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("The Titanic", "titanic", 1),
        ("U.S.", "us", 1),
        ("Spider-Man", "spiderman", 1),
        ("Spider-Man", "spider man", 0),
        ("July 17th, 2024", "july 17th 2024", 1),
        ("Jean‑Luc", "jeanluc", 0),
        ("$3.5", "35", 1),
        ("A.", "the", 1),
        ("RMS Titanic", "Titanic", 0),
    ],
)
def test_mmsearch_r1_compares_as_released(answer: str, gold: str, right: int) -> None:
    assert mmsearch_r1([f"{R}<answer>{answer}</answer>"], [gold]).match == right


def test_substring_is_an_option() -> None:
    assert mmsearch_r1([f"{R}<answer>RMS Titanic</answer>"], ["Titanic"], substring=True).match == 1


def test_the_penalty_can_count_every_call() -> None:
    turns = [R + I, R + T, R + A]
    assert mmsearch_r1(turns, ["Titanic"], per_call_penalty=True).total == pytest.approx(0.829)
    assert mmsearch_r1([*turns[:2], A], ["Titanic"], per_call_penalty=True).total == pytest.approx(0.729)
    assert mmsearch_r1(turns, ["Titanic"], search_penalty=0.5).total == pytest.approx(0.55)


@pytest.mark.parametrize("turns", [[], [R + I] * 4])
def test_only_one_to_three_turns_are_scored(turns: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(turns)} turns"):
        mmsearch_r1(turns, ["Titanic"])


C, WHOLE = "<img_search>the white bird</img_search>", "<img_search><img></img_search>"
E, H = "<answer>Egret</answer>", "<answer>Heron</answer>"
G = f"<answer>{GIVE_UP}</answer>"
DEEPMMSEARCH_ROWS = [
    ([R + E], 1, 1.0),
    ([R + H], 1, 0.1),
    ([E], 0, 0.9),
    ([f"{R}{E}."], 0, 0.0),
    ([f"{R} so {E}"], 1, 1.0),
    ([R + C, R + E], 1, 1.0),
    ([R + WHOLE, R + E], 1, 1.0),
    ([R + T, R + E], 1, 1.0),
    ([R + C, R + T, R + E], 1, 1.0),
    ([R + WHOLE, R + T, R + T, R + E], 1, 1.0),
    ([R + T, R + T, R + E], 1, 1.0),
    ([R + T, R + C, R + E], 1, 1.0),
    ([R + C, R + WHOLE], 0, 0.0),
    ([f"{R}<img_search><img></img></img_search>"], 0, 0.0),
    ([f"{R}<img_search>img</img_search>"], 0, 0.0),
    ([f"{R}<img_search></img_search>"], 0, 0.0),
    ([f"{R}<text_search> </text_search>"], 0, 0.0),
    ([f"{R}<text_search>a\nb</text_search>", R + E], 1, 1.0),
    ([R + C + T, R + E], 0, 0.9),
    ([R + E + T, R + E], 0, 0.9),
    ([f"{R}{T} please"], 0, 0.0),
    ([R + C, R + G], 1, 0.1),
    ([R + C, R + GIVE_UP], 0, 0.0),
    ([*[R + T] * 10, R + E], 1, 1.0),
    ([R + T] * 11, 0, 0.0),
    ([R + C, T, R + E], 0, 0.9),
    ([R + R + E], 0, 0.9),
    ([R + C, R + T], 0, 0.0),
    ([f"{R}<img_search>the white bird </img_search>", R + E], 1, 1.0),
    ([f"<reason>r{WHOLE}</reason>{E}"], 0, 0.9),
    ([f"{R}{I}"], 0, 0.0),
]
"""Turns, format and reward of the paper's rules, gold `Egret`. An image search after a text search is well-formed here; the
stricter reading, in which it is not, is no option."""


@pytest.mark.parametrize(("turns", "well_formed", "total"), DEEPMMSEARCH_ROWS)
def test_deepmmsearch_r1_agrees_with_the_papers_rules(turns: list[str], well_formed: int, total: float) -> None:
    score = deepmmsearch_r1(turns, ["Egret"])
    assert (score.format, round(score.total, 4)) == (well_formed, total)


def test_a_judge_may_overrule_the_match_but_not_a_missing_answer() -> None:
    assert deepmmsearch_r1([R + H], ["Egret"], right=True).total == 1.0
    assert deepmmsearch_r1([R + E], ["Egret"], right=False).total == pytest.approx(0.1)
    assert deepmmsearch_r1([f"{R}{T} please"], ["Egret"], right=True).total == 0.0


@pytest.mark.parametrize(
    ("answer", "golds", "right"),
    [
        ("The Pacific Ocean", ["pacific ocean"], 1),
        ("Ocean, Pacific", ["Pacific Ocean"], 1),
        ("Ocean", ["Indian Ocean", "ocean"], 1),
        ("20 to 24", ["21"], 1),
        ("between 20 and 24", ["21"], 1),
        ("10-15", ["16"], 0),
        ("176", ["176.124"], 1),
        ("3 km", ["3000 m"], 1),
        ("Jupiter", ["Mars"], 0),
        ("5.2", ["52"], 0),
        # what only a reader grants, and what would pay for saying nothing
        ("NYC", ["New York City"], 0),
        ("1 to 1000", ["21"], 0),
        ("2", ["1.6"], 0),
        ("1-2", ["2-1"], 0),
    ],
)
def test_without_a_judge_its_rules_that_need_no_model_are_kept(answer: str, golds: list[str], right: int) -> None:
    """The examples of the paper's appendix E.6, and the bounds."""
    assert deepmmsearch_r1([f"{R}<answer>{answer}</answer>"], golds).match == right


def test_a_single_gold_may_be_given_as_it_is() -> None:
    """As the released scorer takes it; a string's letters are no golds."""
    assert mmsearch_r1([R + A], "Titanic").total == 1.0
    assert mmsearch_r1([f"{R}<answer>T</answer>"], "Titanic").match == 0
    assert mmsearch_r1([f"{R}<answer>RMS Titanic</answer>"], "Titanic", substring=True).match == 1
    assert deepmmsearch_r1([R + E], "Egret").total == 1.0
    assert deepmmsearch_r1([f"{R}<answer>E</answer>"], "Egret").match == 0


PRICES = {"image_search": 0.01, "text_search": 0.002}


def test_calls_are_charged_on_right_answers_only() -> None:
    calls = {"image_search": 1, "text_search": 2}
    score = priced(True, True, calls, PRICES, worth=0.05)
    assert score.cost == pytest.approx(0.014)
    assert score.total == pytest.approx(0.9 * (1 - 0.014 / 0.05) + 0.1)
    assert priced(False, True, calls, PRICES, worth=0.05).total == pytest.approx(0.1)
    assert priced(False, True, {}, PRICES, worth=0.05).total == pytest.approx(0.1)


def test_a_right_answer_is_never_worth_less_than_a_wrong_one() -> None:
    assert priced(True, False, {"image_search": 100}, PRICES).total == 0.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"calls": {"crop": 1}, "prices": PRICES}, "no price for crop"),
        ({"calls": {}, "prices": {"text_search": -1}}, "cannot be negative"),
        ({"calls": {}, "prices": {}, "worth": 0}, "worth is 0"),
        ({"calls": {}, "prices": {}, "format_weight": 2}, "format_weight is 2"),
    ],
)
def test_prices_that_make_no_sense_are_refused(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        priced(True, True, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"search_penalty": 2}, "search_penalty is 2"), ({"format_weight": -1}, "format_weight is -1")],
)
def test_weights_out_of_range_are_refused(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        penalised(True, True, 1, **arguments)


def test_the_warm_up_begins_by_paying_for_searches() -> None:
    assert warmed_up(0.1, 1, 50) == -0.1
    assert penalised(True, True, 1, search_penalty=warmed_up(0.1, 1, 50)).total == pytest.approx(1.09)
    assert warmed_up(0.1, 26, 50) == pytest.approx(0.0)
    assert warmed_up(0.1, 51, 50) == warmed_up(0.1, 500, 50) == pytest.approx(0.1)
    assert warmed_up(0.1, 1, 0) == 0.1
    with pytest.raises(ValueError, match="step is 0"):
        warmed_up(0.1, 0, 50)


def test_the_shadow_price_brings_the_cost_to_the_budget() -> None:
    """A policy whose demand falls with the price settles at the budget, from above and from below."""
    for start in (0.1, 8.0):
        shadow, rng = ShadowPrice(budget=0.5, factor=start), random.Random(0)
        costs = []
        for _ in range(600):
            share = 1 / (1 + shadow.factor)
            costs = [float(rng.random() < share) for _ in range(64)]
            shadow.observe(costs)
        assert shadow.factor == pytest.approx(1.0, abs=0.25)
    assert shadow.prices({"text_search": 2.0}) == {"text_search": 2.0 * shadow.factor}
    with pytest.raises(ValueError, match="budget is 0"):
        ShadowPrice(budget=0)


def test_prices_are_charged_in_the_part_that_is_asked_for() -> None:
    prices, calls = {"image_search": 0.2}, {"image_search": 1}
    assert [
        priced(True, True, calls, prices, charged=part, format_weight=0.0).total for part in (-1, 0, 0.5, 1)
    ] == pytest.approx([1.2, 1.0, 0.9, 0.8])
    with pytest.raises(ValueError, match="charged is 2"):
        priced(True, True, calls, prices, charged=2)
