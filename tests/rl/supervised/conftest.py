"""A supervised recipe of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensgraph.rl.supervised.sft_recipe import SFTRecipe


@pytest.fixture
def recipe(tmp_path: Path, demonstration_file: Path, tiny_size: dict[str, int]) -> SFTRecipe:
    """Four steps of a tiny network."""
    return SFTRecipe(
        demonstrations=demonstration_file, output=tmp_path / "run", size=tiny_size, steps=4, batch=3, accumulate=2,
        warmup_steps=1, decay_steps=1, save_every=2, log_every=1,
    )  # fmt: skip
