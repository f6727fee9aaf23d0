"""The oracle acts on what it is shown, and says it in the dialect."""

from __future__ import annotations

import pytest

from agent.actions import Answer, GiveUp, ImageSearch, TextSearch
from agent.config import load as load_config
from agent.dialects import build
from rl.evaluate import batched
from rl.oracle import OraclePolicy, quote
from tools.local.world import entities
from tools.local.world import tasks as world

HITS = "<information>1. Flag of Elbonia (0.91)\n2. Flag of Latveria (0.55)</information>"


def _oracle(family: str, workflow: str = "search_agent") -> OraclePolicy:
    task = next(t for t in world.load("train", family) if t.query_formal or family in ("visible", "known", "image"))
    return OraclePolicy(task=task, dialect=build("compact"), workflow=workflow)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["visible", "known"])
def test_what_needs_no_search_is_answered_at_once(family: str) -> None:
    oracle = _oracle(family)
    assert oracle.decide([], oracle.task.question)[1] == Answer(oracle.task.golds[0])


def test_a_scene_is_cropped_by_the_questions_own_words() -> None:
    oracle = _oracle("crop_text")
    assert oracle.decide([], oracle.task.question)[1] == ImageSearch(oracle.task.target)


def test_the_query_names_what_the_search_showed_not_what_the_task_knows() -> None:
    oracle = _oracle("image_text")
    thought, action = oracle.decide([ImageSearch()], HITS)
    assert thought == "1. Flag of Elbonia"
    assert isinstance(action, TextSearch)
    assert action.query.startswith("Elbonia ")
    assert entities.get(oracle.task.entity_id or "").name not in action.query


def test_a_first_query_that_misses_is_corrected_and_a_second_miss_ends_it() -> None:
    oracle = _oracle("correction")
    first = oracle.decide([ImageSearch()], HITS)[1]
    second = oracle.decide([ImageSearch(), first], "<information>1. Elbonia\nMud.</information>")[1]
    assert isinstance(first, TextSearch)
    assert isinstance(second, TextSearch)
    assert second.query != first.query
    assert oracle.decide([ImageSearch(), first, second], "<information>1. Elbonia\nMud.</information>")[1] == GiveUp()


def test_the_answer_is_quoted_from_the_page_before_it_is_given() -> None:
    oracle = _oracle("image_text")
    gold = oracle.task.golds[0]
    page = f"<information>1. Elbonia: Government\nSome label: {gold}; Other: 1</information>"
    thought, action = oracle.decide([ImageSearch(), TextSearch("Elbonia x")], page)
    assert action == Answer(gold)
    assert thought == f"Some label: {gold}"


def test_a_region_that_is_not_found_is_searched_as_a_whole_once() -> None:
    oracle = _oracle("crop_text")
    lost = "<information>error: no region</information>"
    assert oracle.decide([ImageSearch("the flag")], lost)[1] == ImageSearch()
    assert oracle.decide([ImageSearch("the flag"), ImageSearch()], lost)[1] == GiveUp()


def test_a_quote_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="does not stand"):
        quote("nothing here", "gold")


def test_an_evaluation_samples_in_batches_unless_told_otherwise() -> None:
    assert batched(load_config()).policy.kind == "transformers"
    assert batched(load_config(None, ["policy.kind=pocket"])).policy.kind == "pocket"
