"""The locator's figures are counted on the scenes of the questions."""

from __future__ import annotations

import pytest

from lensgraph.tools.local.world.figures import location
from lensgraph.tools.local.world.questions import splits
from lensgraph.tools.results import Box


@pytest.mark.parametrize(
    ("other", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0.0),
        ((20, 20, 30, 30), 0.0),
        ((0, 0, 10, 5), 0.5),
    ],
)
def test_overlap_is_intersection_over_union(other: tuple[int, int, int, int], share: float) -> None:
    left, top, right, bottom = other
    box = Box(left=left, top=top, right=right, bottom=bottom)
    assert location.overlap(Box(left=0, top=0, right=10, bottom=10), box) == pytest.approx(share)


def test_every_expression_of_every_item_is_asked_and_most_are_found() -> None:
    made = location.measure("test", 4)
    assert len(made) > 40
    assert {one.items for one in made} <= {2, 3, 4, 5, 6}
    assert sum(one.found for one in made) / len(made) > 0.9
    assert all(one.seconds > 0 for one in made)


@pytest.mark.parametrize("task_id", ["crop_text/00085", "crop_text/00112"])
def test_an_expression_of_which_the_locator_finds_nothing_counts_as_not_found(
    task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two scenes on which it gives up: "the flag" in the one, "the second flag from the bottom" in the other."""
    chosen = [task for task in splits.load_split("test", "crop_text") if task.id.endswith(task_id)]
    monkeypatch.setattr(splits, "load_split", lambda *_, **__: chosen)
    made = location.measure("test")
    assert made and not all(one.found for one in made)
