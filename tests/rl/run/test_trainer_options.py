"""Options of TRL pass through a recipe by their own names, each in one place only."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from transformers import TrainingArguments
from trl import GRPOConfig, SFTConfig

from lensgraph.rl.grpo.build_trainer import arguments
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.pocket.vision_recipe import SightRecipe
from lensgraph.rl.run import trainer_options
from lensgraph.rl.supervised.sft_recipe import SFTRecipe


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epsilon_high", 0.28), ("importance_sampling_level", "sequence"), ("top_entropy_quantile", 0.2),
        ("entropy_coef", 0.001), ("optim", "adamw_torch"), ("bf16", False), ("max_grad_norm", 0.5),
        ("vllm_importance_sampling_mode", "token_mask"), ("delta", 4.0), ("activation_checkpointing", True),
    ],
)  # fmt: skip
def test_an_option_reaches_trl(option: str, value: Any) -> None:
    made = arguments(GRPORecipe(trainer={option: value}))
    assert getattr(made, option) == value


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("epsilon_hihg", 0.28, "did you mean 'epsilon_high'"),
        ("epsilon", 0.3, "set clip"),
        ("learning_rate", 1e-6, "set learning_rate"),
        ("gradient_accumulation_steps", 4, "set accumulate"),
        ("top_p", 0.9, "whole distribution"),
        ("shuffle_dataset", False, "resuming depends on it"),
        ("mask_truncated_completions", True, "reward.mask_overlong"),
        ("importance_sampling_level", "episode", "importance_sampling_level"),
    ],
)
def test_a_wrong_option_is_one_line(option: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match="trainer") as refused:
        arguments(GRPORecipe(trainer={option: value}))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "recipe"), [(GRPOConfig, GRPORecipe), (SFTConfig, SFTRecipe), (TrainingArguments, SightRecipe)]
)
def test_the_same_thing_cannot_be_set_twice(config: Any, recipe: Any) -> None:
    """Whatever a recipe has a field for is refused under TRL's name as well, the field's own name included."""
    names = {one.name for one in fields(config)}
    for name in names & set(recipe.model_fields):
        with pytest.raises(ValueError, match=f"trainer.{name}"):
            trainer_options.build(config, recipe(output="x", steps=9, trainer={name: 1}), {})


def test_the_tables_name_options_that_exist() -> None:
    known = {one.name for config in (GRPOConfig, SFTConfig, TrainingArguments) for one in fields(config)}
    assert set(trainer_options.FIELDS) - known == set()
    assert set(trainer_options.OURS) - known == set()
