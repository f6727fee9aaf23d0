"""The cold start trains what it should, and goes on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from agent.policy.transformers import TransformersPolicy
from rl import recipes, sft, train
from rl.rewrite import Lexicon
from rl.sft import SFTRecipe
from rl.sight import SightRecipe


@pytest.fixture
def recipe(tmp_path: Path, demonstration_file: Path, tiny_size: dict[str, int]) -> SFTRecipe:
    """Four steps of a tiny network."""
    return SFTRecipe(
        demonstrations=demonstration_file, output=tmp_path / "run", size=tiny_size, steps=4, batch=3, accumulate=2,
        warmup_steps=1, decay_steps=1, save_every=2, log_every=1,
    )  # fmt: skip


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return TransformersPolicy(model=str(folder), device="cpu").network.state_dict()


def test_training_moves_the_weights_and_the_policy_answers(recipe: SFTRecipe) -> None:
    policy = TransformersPolicy(model=str(sft.train(recipe)), max_new_tokens=4, device="cpu")
    lines = (recipe.output / "log.jsonl").read_text("utf-8").splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    reply = policy.invoke([HumanMessage([{"type": "image", "image": Image.new("RGB", (64, 48))}])])
    assert len(reply.response_metadata["token_ids"]) in range(1, 5)


def test_a_resumed_run_ends_where_an_unbroken_one_ends(recipe: SFTRecipe, tmp_path: Path) -> None:
    """Also for the vision tower, whose weights have other names in a checkpoint than in the network."""
    whole = _weights(sft.train(recipe))
    broken = recipe.model_copy(update={"output": tmp_path / "broken"})
    half = _weights(sft.train(broken, max_steps=2))
    resumed = _weights(sft.train(broken, resume=True))

    def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> float:
        return sum(float((a[name] - b[name]).abs().sum()) for name in a if part in name)

    for part in ("visual", "language_model"):
        assert distance(resumed, whole, part) < 0.1 * distance(half, whole, part)


def test_rows_depend_on_their_number_only(recipe: SFTRecipe, demonstrations: list, renderer) -> None:
    rows = [sft.Rows(demonstrations, renderer, recipe, Lexicon(names=("Peru",))) for _ in range(2)]
    forward = [rows[0].row(n).ids for n in range(6)]
    assert [rows[1].row(n).ids for n in reversed(range(6))] == forward[::-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sft", "--recipe", "nothing"], "no recipe 'nothing'; use one of"),
        (["sft", "stepz=3"], "stepz"),
        (["sft", "steps=none"], "steps"),
        (["sft", "steps"], "write it as key=value"),
        (["sft", "sight=/no/such/folder", "demonstrations=/no/file"], "sight"),
        (["sight", "stepz=3"], "stepz"),
        (["sft", "start_from=/no/such/folder", "demonstrations=/no/file"], "start_from"),
    ],
)
def test_bad_recipes_end_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_every_shipped_recipe_is_complete() -> None:
    assert "world_sft" in recipes.names()
    assert recipes.read("world_sft", SFTRecipe).steps > 0
    assert recipes.read("world_sight", SightRecipe).steps > 0
