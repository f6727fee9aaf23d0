"""An engine of another version is refused before anything is loaded."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lensgraph.rl import recipes
from lensgraph.rl.grpo.build_trainer import arguments
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.run import engines


@pytest.mark.parametrize(
    ("version", "right"), [("0.21.0", False), ("0.22.0", True), ("0.31.0+cu130", True), ("0.32.0+cpu", False)]
)
def test_a_vllm_that_trl_does_not_speak_with_is_refused(
    monkeypatch: pytest.MonkeyPatch, repository: Path, version: str, right: bool
) -> None:
    given = arguments(recipes.read("mmsearch_r1_7b", GRPORecipe).model_copy(update={"vllm": "colocate"}))
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setattr(metadata, "version", lambda name: version)
    if right:
        engines.check(given)
    else:
        with pytest.raises(
            ValueError, match=r"is installed, and TRL 1\.16 speaks with 0\.22 up to, but not with, 0\.32"
        ):
            engines.check(given)
    extras = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    [named] = [Requirement(one) for one in extras["train-vllm"] if one.startswith("vllm")]
    assert named.specifier.contains(version.partition("+")[0]) == right
