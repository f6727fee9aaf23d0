"""Tasks are fair: splits share no entity, families carry what they need, no answer rules."""

from __future__ import annotations

from collections import Counter

import pytest

from lensgraph.tools.local.world import entities, renditions
from lensgraph.tools.local.world.facts import gather
from lensgraph.tools.local.world.questions import eligibility, phrasings, splits

SPLITS = tuple(splits.SIZES)


# --- splits -------------------------------------------------------------------------------------------------


def test_each_split_has_its_size_and_every_prefix_keeps_the_families_shares() -> None:
    for split in SPLITS:
        loaded = splits.load_split(split)
        assert len(loaded) == splits.SIZES[split]
        counts = Counter(task.family for task in loaded[:200])
        for family, share in splits.SHARES[split].items():
            assert counts[family] == pytest.approx(200 * share, abs=2)


def test_what_is_measured_is_search_balanced() -> None:
    """Half of the questions need no search, so neither always searching nor never searching looks good."""
    for split in ("validation", "test"):
        free = [task.knowledge != "unknown" for task in splits.load_split(split)]
        assert sum(free) == len(free) / 2


def test_no_entity_of_one_split_is_asked_about_or_shown_in_another_except_the_known_ones() -> None:
    for split in SPLITS:
        for task in splits.load_split(split):
            allowed = {"train"} if task.family == "known" else {split}
            assert {entities.get(item.entity_id).split for item in task.items} <= allowed, task.id
            if task.entity_id:
                assert entities.get(task.entity_id).known == (task.family == "known"), task.id


def test_no_entity_of_another_split_is_an_answer_in_training() -> None:
    """But for `known`, where "cat" is a kind of animal and no name."""
    held = eligibility.held_out_names()
    assert len(held) > 300
    for task in splits.load_split("train"):
        if task.family != "known":
            assert not held & {gold.lower() for gold in task.golds}, task.id


def test_a_picture_that_is_searched_for_is_never_an_indexed_drawing() -> None:
    for split in SPLITS:
        for task in splits.load_split(split):
            if task.knowledge == "unknown" or split != "train":
                for item in task.items:
                    kind = entities.get(item.entity_id).kind
                    assert item.rendition not in renditions.INDEXED[kind], task.id


def test_reserved_wordings_appear_in_the_test_split_only() -> None:
    reserved = {
        p.id for wordings in phrasings.wordings().values() for p in (*wordings.formal, *wordings.lay) if p.reserved
    }
    used = {split: {task.phrasing for task in splits.load_split(split)} for split in SPLITS}
    assert not used["train"] & reserved and not used["validation"] & reserved
    assert used["test"] & reserved and used["test"] - reserved


def test_every_relation_has_at_least_eight_open_wordings_or_seven_and_some_reserved() -> None:
    for relation, wordings in phrasings.wordings().items():
        assert len(wordings.formal) >= 8, relation
        assert any(p.reserved for p in wordings.formal), relation
        assert len({p.text for p in wordings.formal}) == len(wordings.formal), relation
    assert set(gather.RELATIONS) <= set(phrasings.wordings())


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others() -> None:
    splits._split.cache_clear()
    first = splits.load_split("validation", limit=50)
    splits._split.cache_clear()
    assert splits.load_split("validation", limit=50) == first
    assert splits.load_split("validation", limit=50, seed=1) != first


@pytest.mark.parametrize(("split", "family", "limit"), [("dev", None, None), ("test", "crop", None), ("test", None, 0)])
def test_a_bad_name_is_an_error_that_lists_the_valid_ones(split: str, family: str | None, limit: int | None) -> None:
    with pytest.raises(ValueError, match=r"there are|at least 1"):
        splits.load_split(split, family=family, limit=limit)


# --- questions ----------------------------------------------------------------------------------------------


def test_no_question_names_its_answer_or_its_entity() -> None:
    for split in SPLITS:
        for task in splits.load_split(split):
            assert "{" not in task.question and task.question[0].isupper(), task.id
            if task.family not in ("visible",) and task.entity_id:
                name = entities.get(task.entity_id).name.lower()
                assert f" {name} " not in f" {task.question.lower()} ", task.question


def test_families_carry_what_their_searches_need() -> None:
    for task in splits.load_split("test"):
        assert (task.target is not None) == (task.family == "crop_text" or task.relation in ("kind_at", "main_colour"))
        assert bool(task.query_lay) == (task.family == "correction")
        if task.family in ("image_text", "correction"):
            assert task.query_formal and task.page_id
        if task.family == "image":
            assert not task.query_formal and task.relation in ("name_flag", "name_thing")


def test_no_answer_rules_a_relation_in_the_searching_families() -> None:
    for split in SPLITS:
        for relation in gather.RELATIONS:
            counts = Counter(fact.gold for fact in eligibility.capped(split, relation))
            if sum(counts.values()) >= 20:
                assert max(counts.values()) / sum(counts.values()) < 0.2, (split, relation)
