"""The locator's figures are counted on the scenes of the questions."""

from __future__ import annotations

import pytest

from tools.local.world import location
from tools.results import Box


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
