"""Flags that nobody flies: near to one that exists, equal to none, and shown where an invented entity is told of."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rl.lookalikes import LEAST, difference, lookalike
from tools.local.world import entities, pictures, scenes

FLAGS = [flag.id for flag in entities.select(split="train", kind="flag") if pictures.has(flag.id, "emojione")]


@pytest.mark.parametrize("entity_id", FLAGS[::3])
def test_a_lookalike_differs_from_every_flag_and_keeps_the_outline(entity_id: str) -> None:
    for seed in range(6):
        made = lookalike(entity_id, "emojione", random.Random(seed))
        own = pictures.load(entity_id, "emojione")
        assert made.size == own.size
        assert np.array_equal(np.asarray(made.getchannel("A")), np.asarray(own.getchannel("A")))
        assert difference(made, own) >= LEAST


def test_the_same_chance_makes_the_same_picture() -> None:
    one, other, third = (lookalike("flag:AU", "twemoji", random.Random(seed)) for seed in (1, 1, 2))
    assert one.tobytes() == other.tobytes() != third.tobytes()


def test_what_is_drawn_is_not_changed() -> None:
    before = pictures.load("flag:FR", "emojione").tobytes()
    for seed in range(8):
        lookalike("flag:FR", "emojione", random.Random(seed))
    assert pictures.load("flag:FR", "emojione").tobytes() == before


def test_it_is_made_of_training_entities_only(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {one.id for split in ("validation", "test") for one in entities.select(split=split)}
    seen: list[str] = []
    load = pictures.load

    def watched(entity_id: str, rendition: str) -> object:
        seen.append(entity_id)
        return load(entity_id, rendition)

    monkeypatch.setattr(pictures, "load", watched)
    for seed in range(60):
        lookalike("flag:AU", "emojione", random.Random(seed))
    assert len(set(seen)) > 20
    assert not held & set(seen)


def test_an_artist_who_did_not_draw_it_is_named() -> None:
    with pytest.raises(KeyError, match="no picture of 'flag:nowhere'"):
        lookalike("flag:nowhere", "emojione", random.Random(0))


def test_a_scene_shows_what_it_is_given_in_the_items_own_box() -> None:
    scene = scenes.compose([("flag:AU", "emojione")], random.Random(3))
    plain = np.asarray(scene.render())
    shown = np.asarray(scene.render({0: lookalike("flag:AU", "emojione", random.Random(0))}))
    changed = np.argwhere((plain != shown).any(-1))
    left, top, right, bottom = scene.items[0].box
    assert len(changed)
    assert (changed >= (top, left)).all()
    assert (changed < (bottom, right)).all()
