"""The shipped index can answer the questions, misses where it should, and is built once for its version."""

from __future__ import annotations

import os
import random
import time

import pytest

from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.world import world_index
from lensgraph.tools.local.world.facts import gather
from lensgraph.tools.local.world.figures import corrections
from lensgraph.tools.local.world.questions import splits, wording


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine.open(world_index.ensure(progress=False))


def test_gold_queries_find_the_gold_page_and_its_snippet_holds_the_answer(engine: LocalEngine) -> None:
    sample = random.Random(1).sample(list(gather.facts()), 150)
    read = [corrections.holds(engine.search_text(wording.formal_query(f), corrections.READ), f) for f in sample]
    assert sum(read) / len(read) >= 0.95


def test_in_the_correction_family_the_first_query_misses_and_the_second_does_not(engine: LocalEngine) -> None:
    table = {(fact.entity_id, fact.relation): fact for fact in gather.facts()}
    for task in splits.load_split("test", "correction", limit=60):
        fact = table[(task.entity_id or "", task.relation)]
        assert not corrections.holds(engine.search_text(task.query_lay, corrections.READ), fact), task.id
        assert corrections.holds(engine.search_text(task.query_formal, corrections.READ), fact), task.id


def test_the_index_is_built_once_and_again_when_its_ingredients_change(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def build(folder, *, progress: bool = True) -> None:
        folder.mkdir()
        (folder / world_index.index_store.FILE_NAME).write_text("x")
        built.append(folder.name)

    monkeypatch.setattr(world_index, "build", build)
    first = world_index.ensure(tmp_path, progress=False)
    assert world_index.ensure(tmp_path, progress=False) == first and len(built) == 1
    monkeypatch.setattr(world_index.index_store, "FORMAT", "other")
    second = world_index.ensure(tmp_path, progress=False)
    assert second != first and len(built) == 2
    assert first.exists(), "a run of the other version may still hold it open"
    long_ago = time.time() - 2 * world_index.UNUSED_S
    for folder in (first, second):
        os.utime(folder, (long_ago, long_ago))
    world_index.ensure(tmp_path, progress=False)
    monkeypatch.setattr(world_index.index_store, "FORMAT", "a third")
    world_index.ensure(tmp_path, progress=False)
    assert second.exists(), "it was opened just now"
    assert not first.exists(), "nobody has opened it for long"


def test_a_build_that_dies_leaves_no_index(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder, *, progress: bool = True) -> None:
        folder.mkdir()
        (folder / world_index.index_store.FILE_NAME).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(world_index, "build", build)
    with pytest.raises(KeyboardInterrupt):
        world_index.ensure(tmp_path, progress=False)
    assert not list(tmp_path.glob("world-*"))
