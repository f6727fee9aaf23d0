"""Pictures fit their questions: items keep apart, boxes and counts are true, a target means one item."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lensgraph.tools.local.world import measures
from lensgraph.tools.local.world.questions import expressions, scenes, splits


def test_items_never_overlap_and_keep_their_distance() -> None:
    for task in splits.load_split("test"):
        for i, one in enumerate(task.items):
            assert one.box[0] >= 0 and one.box[1] >= 0
            assert one.box[2] <= task.picture.width and one.box[3] <= task.picture.height
            for other in task.items[i + 1 :]:
                dx = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
                dy = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
                assert max(dx, dy) >= scenes.GAP, task.id


def test_a_scene_renders_to_the_same_pixels_and_shows_each_item_where_its_box_is() -> None:
    for task in splits.load_split("test", "crop_text", limit=10):
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
    for task in splits.load_split("test", "visible"):
        if task.relation == "count_flags":
            assert int(task.golds[0]) == sum(item.is_flag for item in task.items)
        if task.relation == "background":
            assert task.golds[0] == task.picture.background


def test_a_target_singles_out_one_item_only() -> None:
    chance = random.Random(3)
    for task in splits.load_split("test", "crop_text", limit=120):
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
