"""Flags that nobody flies: near to one that exists, equal to none, and shown where an invented entity is told of."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from lensgraph.rl.pocket.invented_flags import LEAST, distance, lookalike
from lensgraph.tools.local.world import entities, renditions
from lensgraph.tools.local.world.questions import scenes

FLAGS = [flag.id for flag in entities.select(split="train", kind="flag") if renditions.has(flag.id, "twemoji")]


def _gap(a: Image.Image, b: Image.Image) -> float:
    """Mean difference of the colours of two pictures, wherever either is visible."""
    one, other = (np.asarray(p.convert("RGBA").resize((48, 32)), dtype=np.float32) for p in (a, b))
    seen = (one[..., 3] > 128) | (other[..., 3] > 128)
    return float(np.abs(one - other)[seen][:, :3].mean())


@pytest.mark.parametrize("entity_id", FLAGS[::4])
def test_a_lookalike_is_no_flag_of_any_split_and_keeps_the_outline(entity_id: str) -> None:
    own = renditions.load_rendition(entity_id, "twemoji")
    every = [
        renditions.load_rendition(one, "twemoji") for one in renditions.encoded("twemoji") if one.startswith("flag:")
    ]
    for seed in range(4):
        made = lookalike(entity_id, "twemoji", random.Random(seed))
        assert made.size == own.size
        assert np.array_equal(np.asarray(made.getchannel("A")), np.asarray(own.getchannel("A")))
        assert min(_gap(made, one) for one in every) > 0.75 * LEAST


def test_one_tricolour_is_not_made_from_another() -> None:
    """Green and blue of Italy's flag swapped are France's; such a picture is refused."""
    italy, france = (renditions.load_rendition(one, "twemoji") for one in ("flag:IT", "flag:FR"))
    red, green, blue, alpha = italy.split()
    assert _gap(Image.merge("RGBA", (red, blue, green, alpha)), france) < 15
    assert distance(france, "twemoji") == 0
    for seed in range(40):
        assert _gap(lookalike("flag:IT", "twemoji", random.Random(seed)), france) > 0.75 * LEAST


def test_the_same_chance_makes_the_same_picture() -> None:
    one, other, third = (lookalike("flag:AU", "twemoji", random.Random(seed)) for seed in (1, 1, 2))
    assert one.tobytes() == other.tobytes() != third.tobytes()


def test_what_is_drawn_is_not_changed() -> None:
    before = renditions.load_rendition("flag:FR", "emojione").tobytes()
    for seed in range(8):
        lookalike("flag:FR", "emojione", random.Random(seed))
    assert renditions.load_rendition("flag:FR", "emojione").tobytes() == before


def test_it_is_made_of_training_entities_and_artists_only(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {one.id for split in ("validation", "test") for one in entities.select(split=split)}
    asked = {*renditions.TEST_QUERIES["flag"], *renditions.TEST_QUERIES["thing"], *renditions.HARD_QUERIES["flag"]}
    lookalike("flag:AU", "flag_icons", random.Random(0))  # what is compared with is loaded once
    seen: set[tuple[str, str]] = set()
    load = renditions.load_rendition

    def watched(entity_id: str, rendition: str) -> Image.Image:
        seen.add((entity_id, rendition))
        return load(entity_id, rendition)

    monkeypatch.setattr(renditions, "load_rendition", watched)
    for seed in range(60):
        lookalike("flag:AU", "flag_icons", random.Random(seed))
    assert len(seen) > 20
    assert not held & {entity for entity, _ in seen}
    assert not asked & {rendition for _, rendition in seen}


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
