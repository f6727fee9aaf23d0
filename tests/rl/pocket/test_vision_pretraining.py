"""The vision tower is told what a scene holds, and learns it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from lensgraph.rl.network.collate import IGNORE
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket import vision_pretraining
from lensgraph.rl.pocket.redraw import training_artists
from lensgraph.rl.pocket.vision_recipe import SightRecipe
from lensgraph.rl.pocket.vision_targets import COLOURS, LabelledPictures, covered, shaken
from lensgraph.rl.supervised import train_supervised as sft
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.tools.local.world.questions import scenes


@pytest.fixture
def recipe(tmp_path: Path, tiny_size: dict[str, int]) -> SightRecipe:
    """Six steps of a tiny tower."""
    return SightRecipe(
        output=tmp_path / "sight",
        size=tiny_size,
        steps=6,
        batch=4,
        warmup_steps=1,
        decay_steps=1,
        save_every=3,
        log_every=1,
    )


def test_labels_are_read_from_the_scene(recipe: SightRecipe) -> None:
    pictures = LabelledPictures(recipe.size, 0)
    cast = [(pictures.flags[0].id, "twemoji"), (pictures.things[0].id, "twemoji"), (pictures.flags[1].id, "twemoji")]
    scene = scenes.compose(cast, random.Random(1))
    seen = pictures.labelled(scene, scene.render())
    assert (seen.whole["items"], seen.whole["flags"], seen.whole["things"]) == (3, 2, 1)
    assert seen.whole["background"] == COLOURS.index(scene.background)
    assert {n for n in seen.tokens["entity"] if n != IGNORE} == {pictures.number[entity] for entity, _ in cast}
    cells = seen.grid[1] * seen.grid[2] // 4
    assert all(len(labels) == cells for labels in seen.tokens.values())
    assert all(
        (sort == 0) == (who == IGNORE) for sort, who in zip(seen.tokens["sort"], seen.tokens["entity"], strict=True)
    )


def test_no_picture_shows_what_training_may_not_see(recipe: SightRecipe) -> None:
    pictures = LabelledPictures(recipe.size, 0)
    assert all(entity.split == "train" for entity in pictures.cast)
    artists = {artist for entity in pictures.cast for artist in training_artists(entity)}
    assert not artists & {"flagpack", "fluent_3d", "circle_flags"}


def test_a_small_item_still_has_a_token() -> None:
    assert covered((90, 40, 96, 46), 100, 100, 4, 4) == {7}
    assert covered((0, 0, 100, 50), 100, 100, 2, 2) == {0, 1}


def test_pictures_depend_on_their_number_only(recipe: SightRecipe) -> None:
    a, b = LabelledPictures(recipe.size, 3), LabelledPictures(recipe.size, 3)
    first = [a.picture(n).tokens for n in range(5)]
    assert [b.picture(n).tokens for n in reversed(range(5))] == first[::-1]


def test_a_tower_is_trained_resumed_and_put_into_a_policy(
    recipe: SightRecipe, tmp_path: Path, demonstration_file: Path, tiny_size: dict[str, int]
) -> None:
    vision_pretraining.train(recipe, max_steps=3)
    tower = vision_pretraining.train(recipe, resume=True)
    before = (tower / "model.safetensors").read_bytes()
    vision_pretraining.train(recipe, resume=True)
    assert (tower / "model.safetensors").read_bytes() == before, "a finished run trains no further step"
    cold = SFTRecipe(
        demonstrations=demonstration_file, output=tmp_path / "run", size=tiny_size, sight=tower, steps=2, batch=2,
        warmup_steps=1, decay_steps=1,
    )  # fmt: skip
    policy = sft.train(cold)
    assert policy is not None
    assert str(tmp_path) not in (policy / "config.json").read_text()  # a policy may ship
    trained = pocket.load_network(policy).model.visual.state_dict()
    eyes = {k: v.bfloat16().float() for k, v in pocket.load_tower(tower).state_dict().items()}
    assert all(torch.equal(trained[name], eyes[name]) for name in eyes if "merger" not in name)
    assert any(not torch.equal(trained[name], eyes[name]) for name in eyes if "merger" in name)


def test_a_tower_of_another_width_is_refused(recipe: SightRecipe, processor, tmp_path: Path) -> None:
    wide = recipe.size.model_copy(update={"hidden": 96})
    tower = tmp_path / "tower"
    vision_pretraining.new_tower(wide).save_pretrained(tower)
    network = pocket.build_network(processor, recipe.size)
    with pytest.raises(ValueError, match="96 wide, the network's 48"):
        pocket.graft(network, tower)
    with pytest.raises(FileNotFoundError, match="rl.train sight"):
        pocket.graft(network, tmp_path / "nothing")


def test_tone_and_sharpness_change_but_not_the_size() -> None:
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    other = shaken(picture, random.Random(0))
    assert other.size == picture.size
    assert other.tobytes() != picture.tobytes()
