"""Tasks are fair: splits share no entity, pictures fit their questions, and the shipped index can answer them."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import numpy as np
import pytest

from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.world import (
    corrections,
    eligibility,
    entities,
    expressions,
    facts,
    measures,
    phrasings,
    pictures,
    questions,
    scenes,
    wording,
    world_index,
)

SPLITS = tuple(questions.SIZES)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine.open(world_index.ensure(progress=False))


# --- splits -------------------------------------------------------------------------------------------------


def test_each_split_has_its_size_and_every_prefix_keeps_the_families_shares() -> None:
    for split in SPLITS:
        loaded = questions.load(split)
        assert len(loaded) == questions.SIZES[split]
        counts = Counter(task.family for task in loaded[:200])
        for family, share in questions.SHARES[split].items():
            assert counts[family] == pytest.approx(200 * share, abs=2)


def test_what_is_measured_is_search_balanced() -> None:
    """Half of the questions need no search, so neither always searching nor never searching looks good."""
    for split in ("validation", "test"):
        free = [task.knowledge != "unknown" for task in questions.load(split)]
        assert sum(free) == len(free) / 2


def test_no_entity_of_one_split_is_asked_about_or_shown_in_another_except_the_known_ones() -> None:
    for split in SPLITS:
        for task in questions.load(split):
            allowed = {"train"} if task.family == "known" else {split}
            assert {entities.get(item.entity_id).split for item in task.items} <= allowed, task.id
            if task.entity_id:
                assert entities.get(task.entity_id).known == (task.family == "known"), task.id


def test_no_entity_of_another_split_is_an_answer_in_training() -> None:
    """But for `known`, where "cat" is a kind of animal and no name."""
    held = eligibility.held_out_names()
    assert len(held) > 300
    for task in questions.load("train"):
        if task.family != "known":
            assert not held & {gold.lower() for gold in task.golds}, task.id


def test_a_picture_that_is_searched_for_is_never_an_indexed_drawing() -> None:
    for split in SPLITS:
        for task in questions.load(split):
            if task.knowledge == "unknown" or split != "train":
                for item in task.items:
                    kind = entities.get(item.entity_id).kind
                    assert item.rendition not in pictures.INDEXED[kind], task.id


def test_reserved_wordings_appear_in_the_test_split_only() -> None:
    reserved = {
        p.id for wordings in phrasings.wordings().values() for p in (*wordings.formal, *wordings.lay) if p.reserved
    }
    used = {split: {task.phrasing for task in questions.load(split)} for split in SPLITS}
    assert not used["train"] & reserved and not used["validation"] & reserved
    assert used["test"] & reserved and used["test"] - reserved


def test_every_relation_has_at_least_eight_open_wordings_or_seven_and_some_reserved() -> None:
    for relation, wordings in phrasings.wordings().items():
        assert len(wordings.formal) >= 8, relation
        assert any(p.reserved for p in wordings.formal), relation
        assert len({p.text for p in wordings.formal}) == len(wordings.formal), relation
    assert set(facts.RELATIONS) <= set(phrasings.wordings())


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others() -> None:
    questions._split.cache_clear()
    first = questions.load("validation", limit=50)
    questions._split.cache_clear()
    assert questions.load("validation", limit=50) == first
    assert questions.load("validation", limit=50, seed=1) != first


@pytest.mark.parametrize(("split", "family", "limit"), [("dev", None, None), ("test", "crop", None), ("test", None, 0)])
def test_a_bad_name_is_an_error_that_lists_the_valid_ones(split: str, family: str | None, limit: int | None) -> None:
    with pytest.raises(ValueError, match=r"there are|at least 1"):
        questions.load(split, family=family, limit=limit)


# --- questions ----------------------------------------------------------------------------------------------


def test_no_question_names_its_answer_or_its_entity() -> None:
    for split in SPLITS:
        for task in questions.load(split):
            assert "{" not in task.question and task.question[0].isupper(), task.id
            if task.family not in ("visible",) and task.entity_id:
                name = entities.get(task.entity_id).name.lower()
                assert f" {name} " not in f" {task.question.lower()} ", task.question


def test_families_carry_what_their_searches_need() -> None:
    for task in questions.load("test"):
        assert (task.target is not None) == (task.family == "crop_text" or task.relation in ("kind_at", "main_colour"))
        assert bool(task.query_lay) == (task.family == "correction")
        if task.family in ("image_text", "correction"):
            assert task.query_formal and task.page_id
        if task.family == "image":
            assert not task.query_formal and task.relation in ("name_flag", "name_thing")


def test_no_answer_rules_a_relation_in_the_searching_families() -> None:
    for split in SPLITS:
        for relation in facts.RELATIONS:
            counts = Counter(fact.gold for fact in eligibility.capped(split, relation))
            if sum(counts.values()) >= 20:
                assert max(counts.values()) / sum(counts.values()) < 0.2, (split, relation)


# --- pictures -----------------------------------------------------------------------------------------------


def test_items_never_overlap_and_keep_their_distance() -> None:
    for task in questions.load("test"):
        for i, one in enumerate(task.items):
            assert one.box[0] >= 0 and one.box[1] >= 0
            assert one.box[2] <= task.picture.width and one.box[3] <= task.picture.height
            for other in task.items[i + 1 :]:
                dx = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
                dy = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
                assert max(dx, dy) >= scenes.GAP, task.id


def test_a_scene_renders_to_the_same_pixels_and_shows_each_item_where_its_box_is() -> None:
    for task in questions.load("test", "crop_text", limit=10):
        once, again = np.asarray(task.render()), np.asarray(task.render())
        assert (once == again).all() and once.shape == (task.picture.height, task.picture.width, 3)
        inside = np.zeros(once.shape[:2], bool)
        for item in task.items:
            left, top, right, bottom = item.box
            inside[top:bottom, left:right] = True
        shade = np.asarray(task.picture.shade, int)
        far = np.abs(once.astype(int) - shade).max(-1) > 40
        assert not far[~inside].any(), "the background is not where the spec says"
        for item in task.items:
            left, top, right, bottom = item.box
            assert far[top:bottom, left:right].mean() > 0.1, "an item cannot be told from the background"


def test_counts_are_those_of_the_scene() -> None:
    for task in questions.load("test", "visible"):
        if task.relation == "count_flags":
            assert int(task.golds[0]) == sum(item.is_flag for item in task.items)
        if task.relation == "background":
            assert task.golds[0] == task.picture.background


def test_a_target_singles_out_one_item_only() -> None:
    chance = random.Random(3)
    for task in questions.load("test", "crop_text", limit=120):
        place = task.items.index(task.item)
        mine = expressions.targets(task.picture, place)
        assert task.target in mine
        theirs = [t for i in range(len(task.items)) if i != place for t in expressions.targets(task.picture, i)]
        assert not set(mine) & set(theirs), task.id
        assert 2 <= len(task.items) <= 6
        chance.random()


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((255, 255, 255), "white"), ((10, 10, 10), "black"), ((200, 20, 30), "red"), ((250, 220, 50), "yellow"),
     ((0, 100, 40), "green"), ((20, 40, 160), "blue"), ((240, 140, 30), "orange"), ((110, 60, 150), "purple")],
)  # fmt: skip
def test_colour_words_are_the_usual_ones(rgb: tuple[int, int, int], word: str) -> None:
    assert measures.colour_word(*rgb) == word


def test_every_background_shade_is_called_what_it_is() -> None:
    for name, shades in scenes.BACKGROUNDS.items():
        for shade in shades:
            assert measures.colour_word(*shade) == name or (name, measures.colour_word(*shade)) == ("grey", "light")


# --- with the real engine -----------------------------------------------------------------------------------


def test_gold_queries_find_the_gold_page_and_its_snippet_holds_the_answer(engine: LocalEngine) -> None:
    sample = random.Random(1).sample(list(facts.facts()), 150)
    read = [corrections.holds(engine.search_text(wording.formal_query(f), corrections.READ), f) for f in sample]
    assert sum(read) / len(read) >= 0.95


def test_in_the_correction_family_the_first_query_misses_and_the_second_does_not(engine: LocalEngine) -> None:
    table = {(fact.entity_id, fact.relation): fact for fact in facts.facts()}
    for task in questions.load("test", "correction", limit=60):
        fact = table[(task.entity_id or "", task.relation)]
        assert not corrections.holds(engine.search_text(task.query_lay, corrections.READ), fact), task.id
        assert corrections.holds(engine.search_text(task.query_formal, corrections.READ), fact), task.id


def test_the_index_is_built_once_and_again_when_its_ingredients_change(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def build(folder, *, progress: bool = True) -> None:
        folder.mkdir()
        (folder / world_index.store.FILE_NAME).write_text("x")
        built.append(folder.name)

    monkeypatch.setattr(world_index, "build", build)
    first = world_index.ensure(tmp_path, progress=False)
    assert world_index.ensure(tmp_path, progress=False) == first and len(built) == 1
    monkeypatch.setattr(world_index.store, "FORMAT", "other")
    second = world_index.ensure(tmp_path, progress=False)
    assert second != first and len(built) == 2
    assert first.exists(), "a run of the other version may still hold it open"
    long_ago = time.time() - 2 * world_index.UNUSED_S
    for folder in (first, second):
        os.utime(folder, (long_ago, long_ago))
    world_index.ensure(tmp_path, progress=False)
    monkeypatch.setattr(world_index.store, "FORMAT", "a third")
    world_index.ensure(tmp_path, progress=False)
    assert second.exists(), "it was opened just now"
    assert not first.exists(), "nobody has opened it for long"


def test_a_build_that_dies_leaves_no_index(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder, *, progress: bool = True) -> None:
        folder.mkdir()
        (folder / world_index.store.FILE_NAME).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(world_index, "build", build)
    with pytest.raises(KeyboardInterrupt):
        world_index.ensure(tmp_path, progress=False)
    assert not list(tmp_path.glob("world-*"))
