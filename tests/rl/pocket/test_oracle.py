"""The oracle acts on what it is shown, and says it in the dialect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensgraph.agent.actions import Answer, GiveUp, SearchByImage, SearchByText
from lensgraph.agent.config import ConfigError, load_config
from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation import ceiling
from lensgraph.rl.evaluation.record import Record, read_records
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.pocket import demonstrations
from lensgraph.rl.pocket.oracle import OraclePolicy, quote
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.run import jsonl
from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.questions import splits as world

HITS = "<information>1. Flag of Elbonia (0.91)\n2. Flag of Latveria (0.55)</information>"


def _oracle(family: str, workflow: str = "search_agent") -> OraclePolicy:
    task = next(
        t for t in world.load_split("train", family) if t.query_formal or family in ("visible", "known", "image")
    )
    return OraclePolicy(task=task, dialect=build("compact"), workflow=workflow)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["visible", "known"])
def test_what_needs_no_search_is_answered_at_once(family: str) -> None:
    oracle = _oracle(family)
    assert oracle.decide([], oracle.task.question)[1] == Answer(oracle.task.golds[0])


def test_a_scene_is_cropped_by_the_questions_own_words() -> None:
    oracle = _oracle("crop_text")
    assert oracle.decide([], oracle.task.question)[1] == SearchByImage(oracle.task.target)


def test_the_query_names_what_the_search_showed_not_what_the_task_knows() -> None:
    oracle = _oracle("image_text")
    thought, action = oracle.decide([SearchByImage()], HITS)
    assert thought == "1. Flag of Elbonia"
    assert isinstance(action, SearchByText)
    assert action.query.startswith("Elbonia ")
    assert entities.get(oracle.task.entity_id or "").name not in action.query


def test_a_first_query_that_misses_is_corrected_and_a_second_miss_ends_it() -> None:
    oracle = _oracle("correction")
    first = oracle.decide([SearchByImage()], HITS)[1]
    second = oracle.decide([SearchByImage(), first], "<information>1. Elbonia\nMud.</information>")[1]
    assert isinstance(first, SearchByText)
    assert isinstance(second, SearchByText)
    assert second.query != first.query
    assert oracle.decide([SearchByImage(), first, second], "<information>1. Elbonia\nMud.</information>")[1] == GiveUp()


def test_the_answer_is_quoted_from_the_page_before_it_is_given() -> None:
    oracle = _oracle("image_text")
    gold = oracle.task.golds[0]
    page = f"<information>1. Elbonia: Government\nSome label: {gold}; Other: 1</information>"
    thought, action = oracle.decide([SearchByImage(), SearchByText("Elbonia x")], page)
    assert action == Answer(gold)
    assert thought == f"Some label: {gold}"


def test_a_region_that_is_not_found_is_searched_as_a_whole_once() -> None:
    oracle = _oracle("crop_text")
    lost = "<information>error: no region</information>"
    assert oracle.decide([SearchByImage("the flag")], lost)[1] == SearchByImage()
    assert oracle.decide([SearchByImage("the flag"), SearchByImage()], lost)[1] == GiveUp()


@pytest.mark.parametrize("more", ["", "\n2. Flag of Freedonia (0.60)"])
def test_the_first_result_is_named_however_many_are_shown(more: str) -> None:
    seen = f"<information>1. Flag of Elbonia (0.97){more}</information>"
    thought, action = _oracle("image").decide([SearchByImage()], seen)
    assert (thought, action) == ("1. Flag of Elbonia", Answer("Elbonia"))


@pytest.mark.parametrize(
    ("page", "gold", "query", "quoted"),
    [
        ("1. Paraguay: Economy\nPorts, total number: 1", "1", "total ports", "Ports, total number: 1"),
        ("1. A\nLand area: 5; Water area: 7; Seats: 5", "5", "seats", " Seats: 5"),
        ("1. Maple\nThe genus is in the soapberry family Sapindaceae.", "Sapindaceae", "family", " family Sapindaceae"),
        ("1. Globe\nA globe is a spherical model of Earth.", "spherical model", "", " is a spherical model"),
        ("1. Bath\nMade of thermoformed acrylic.", "acrylic", "", " thermoformed acrylic"),
        ("1. Gold\nnothing here", "Gold", "", None),
        ("1. Wonders\nThere are seven", "1", "sites", None),
    ],
)
def test_a_quote_begins_where_the_page_marks_it(page: str, gold: str, query: str, quoted: str | None) -> None:
    assert quote(f"<information>{page}</information>", gold, query) == quoted


def test_an_evaluation_samples_in_batches_unless_told_otherwise() -> None:
    assert batched(load_config()).policy.kind == "transformers"
    assert batched(load_config(None, ["policy.kind=pocket"])).policy.kind == "pocket"


def test_runs_that_would_wait_for_a_person_are_refused_before_they_begin() -> None:
    config = load_config(None, ["approve=[crop]"])
    with pytest.raises(ConfigError, match=r"^approve=crop: nobody is there to be asked"):
        batched(config)
    with pytest.raises(ConfigError, match=r"^approve=crop: nobody is there to be asked"):
        RolloutSetup(graph="search_agent", config=config, policy=ScriptedPolicy([]), dialect=build("compact"))


def test_a_frugal_oracle_asks_in_the_pages_words_at_once() -> None:
    """Such a task needs two searches; a demonstration of it makes three."""
    oracle = _oracle("correction")
    frugal = oracle.model_copy(update={"frugal": True})
    query = frugal.decide([SearchByImage()], HITS)[1]
    assert isinstance(query, SearchByText)
    assert query != oracle.decide([SearchByImage()], HITS)[1]
    assert query.query.removeprefix("Elbonia") in oracle.task.query_formal


def test_demonstrations_are_made_in_every_manner_and_counted_by_it(tmp_path: Path) -> None:
    """The same lay question plainly and frugally: the frugal run needs one search less. A second call adds nothing."""
    path, counts = (
        tmp_path / "demos.jsonl",
        {"search_agent": {"correction": 2}, "frugal": {"correction": 2}, "eager": {"known": 1}},
    )
    demonstrations.make(path, counts)
    kinds = [(row["workflow"], row["manner"]) for row in jsonl.rows(path)]
    assert sorted(kinds) == [
        ("search_agent", "eager"),
        *[("search_agent", "frugal")] * 2,
        *[("search_agent", "plain")] * 2,
    ]
    assert {kind: total for kind, (_, total) in demonstrations.summary(path).items()} == {
        "eager/known": 1, "frugal/correction": 2, "search_agent/correction": 2,
    }  # fmt: skip
    turns = {
        (one.task, one.manner): sum(m.role == "assistant" for m in one.messages)
        for one in demonstrations.load_right(path)
    }
    for task in {task for task, manner in turns if manner == "frugal"}:
        assert turns[task, "frugal"] == 3 < turns[task, "plain"]
    demonstrations.make(path, counts)
    assert len(list(jsonl.rows(path))) == 5


def test_the_search_floor_is_told_by_family_and_knowledge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first ten tasks hold every label; what is known or in sight needs no search."""
    figures, records = tmp_path / "figures.json", tmp_path / "records.jsonl"
    assert main(["ceiling", "--first", "10", "--frugal", "--json", str(figures), "--records", str(records)]) == 0
    found = json.loads(figures.read_text())
    assert found["all"]["tasks"] == sum(row["tasks"] for row in found["by_knowledge"].values()) == 10
    assert {found["by_knowledge"][label]["searches"] for label in ("known", "visible")} == {0.0}
    assert 1 <= found["by_knowledge"]["unknown"]["searches"] <= 2
    low, high = found["all"]["searches_interval"]
    assert low <= found["all"]["searches"] <= high
    assert "(unknown)" in capsys.readouterr().out
    assert len(read_records(records)) == 10
    assert main(["ceiling", "--records", str(records)]) == 2
    assert "exists" in capsys.readouterr().err


def test_an_accuracy_has_a_price_in_searches() -> None:
    """The cheapest answers first: what is known, then what one search finds."""
    records = [_floor("known", True, 0)] * 2 + [_floor("unknown", True, 2)] * 2 + [_floor("unknown", True, 1)]
    records += [_floor("unknown", False, 2)] * 5
    assert ceiling.fewest(records, 0.2) == (0.0, 0.8)
    assert ceiling.fewest(records, 0.3) == (0.1, 0.8)
    assert ceiling.fewest(records, 0.4) == (0.3, 0.9)
    assert ceiling.fewest(records, 0.5) == (0.5, 1.0)
    with pytest.raises(ValueError, match="above the ceiling of 0.500"):
        ceiling.fewest(records, 0.6)


def _floor(knowledge: str, right: bool, calls: int) -> Record:
    return Record(
        task="t", family="image", knowledge=knowledge, answer="x", correct=right, stop_reason="answered", turns=1,
        malformed=0, well_formed=True, image_searches=min(1, calls), text_searches=max(0, calls - 1), seconds={},
        price=0.0, trace=[],
    )  # fmt: skip
