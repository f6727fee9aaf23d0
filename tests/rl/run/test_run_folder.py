"""Every stage begins in one way: checked, written down, resumable."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lensgraph.rl import recipes
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.pocket.vision_recipe import SightRecipe
from lensgraph.rl.run.base_recipes import RunRecipe
from lensgraph.rl.run.run_folder import DEVICES, RECIPE, begin
from lensgraph.rl.supervised.sft_recipe import SFTRecipe

STAGES = [GRPORecipe, SFTRecipe, SightRecipe]


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_says_what_it_does_and_the_order_names_fields(stage: type[RunRecipe]) -> None:
    assert [name for name, field in stage.model_fields.items() if not field.description] == []
    assert set(stage.data_order) - set(stage.model_fields) == set()
    assert "seed" in stage.data_order


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_is_written_down_and_goes_on(stage: type[RunRecipe], tmp_path: Path) -> None:
    recipe = stage(output=tmp_path / "run", steps=9)
    assert begin(recipe, dry_run=True).last is None
    assert not recipe.output.exists()
    first = begin(recipe, max_steps=4, devices=2)
    assert (first.last, first.end) == (None, 4)
    assert recipes.read(str(recipe.output / RECIPE), stage) == recipe
    assert (recipe.output / DEVICES).read_text() == "2\n"
    whole, half = (recipe.output / "checkpoints" / f"checkpoint-{step}" for step in (4, 6))
    for folder in (whole, half):
        folder.mkdir(parents=True)
    (whole / "trainer_state.json").write_text("{}")
    with pytest.raises(FileExistsError, match="go on from them with --resume"):
        begin(recipe)
    with pytest.raises(ValueError, match="3 processes or GPUs would change the order"):
        begin(recipe, resume=True, devices=3)
    again = begin(recipe, resume=True, devices=2)
    assert (again.last, again.end) == (whole, 9)
    assert not half.exists()
    with pytest.raises(ValueError, match="seed=1 would change the order"):
        begin(recipe.model_copy(update={"seed": 1}), resume=True)
    with pytest.raises(ValueError, match="at least one step"):
        begin(recipe, max_steps=0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_that_an_older_run_saved_still_loads(stage: type[RunRecipe], tmp_path: Path) -> None:
    """It lacks the fields that are younger than the run, and its fields stand in another order."""
    recipe = stage(output=tmp_path / "run", steps=9)
    begin(recipe)
    checkpoint = recipe.output / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    saved = yaml.safe_load((recipe.output / RECIPE).read_text())
    del saved["trackers"]
    (recipe.output / RECIPE).write_text(yaml.safe_dump(saved, sort_keys=True))
    assert begin(recipes.read(str(recipe.output / RECIPE), stage), resume=True).last == checkpoint
