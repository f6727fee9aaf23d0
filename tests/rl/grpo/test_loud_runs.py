"""A run tells of what goes wrong in it, and of nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lensgraph.agent.config import ConfigError
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl import recipes, train
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.evaluation.run_tasks import failed
from lensgraph.rl.grpo import held_out, training_metrics
from lensgraph.rl.grpo import train_online as grpo
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.pocket import pocket_network
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rollout import episode
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task, load_tasks


@pytest.fixture
def recipe(tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int]) -> GRPORecipe:
    """One step of a tiny network that knows nothing; nothing else is measured."""
    pocket_network.save(pocket_network.build_network(processor, PocketSize(**tiny_size)), processor, tmp_path / "base")
    return GRPORecipe(
        start_from=str(tmp_path / "base"), output=tmp_path / "run", task_limit=4, held_out_limit=0, steps=1, prompts=2,
        generations=4, batch=4, max_new_tokens=6, concurrent=8, sampler="thread",
    )  # fmt: skip


def log_of(recipe: GRPORecipe) -> dict[str, Any]:
    return next(row for row in jsonl.peek(recipe.output / "log.jsonl") if "accuracy" in row)


@pytest.mark.parametrize("changes", [{}, {"updates": 2, "steps": 2}, {"num_iterations": 2, "steps": 2}])
def test_sampler_and_trainer_are_compared_in_every_step(
    recipe: GRPORecipe, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe.model_copy(update=changes)
    grpo.train(recipe)
    rows = [row for row in jsonl.peek(recipe.output / "log.jsonl") if "delta_logp/mean" in row]
    assert [row["step"] for row in rows] == list(range(1, recipe.steps + 1))
    assert all(row["delta_logp/mean"] <= row["delta_logp/max"] < 1e-4 for row in rows)
    assert rows[0]["pictures"] >= 1
    assert rows[0]["pictures/unseen"] == rows[0]["failures"] == 0
    assert "ALARM" not in capsys.readouterr().err


def test_a_sampler_with_other_weights_raises_the_alarm(
    recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an engine does to which the new weights were never sent."""
    recorded = GraphGRPOTrainer.recorded
    monkeypatch.setattr(GraphGRPOTrainer, "recorded", lambda self, ids: recorded(self, ids) - 0.3)
    grpo.train(recipe)
    assert log_of(recipe)["delta_logp/mean"] == pytest.approx(0.3, abs=1e-3)
    told = " ".join(capsys.readouterr().err.split())
    assert "ALARM step 1: mean |delta log p| between sampler and trainer is 0.300 nats" in told


def test_a_batch_that_lost_its_pictures_ends_the_run(recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = training_metrics.pictures
    monkeypatch.setattr(
        training_metrics,
        "pictures",
        lambda made, tasks, output, kept: pictures(made, tasks, {**output, "num_images": [1]}, kept),
    )
    with pytest.raises(ValueError, match=r"the policy saw \d+ in this batch, and the training batch holds 1"):
        grpo.train(recipe)


def test_a_setting_that_cannot_work_ends_a_run_that_has_begun(
    recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wrong(*rest: Any) -> Any:
        raise ConfigError("tools.text_search: the key was revoked")

    monkeypatch.setattr(episode, "_roll", wrong)
    path = recipe.output.parent / "mine.yaml"
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    assert train.main(["--recipe", str(path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"{path}: tools.text_search: the key was revoked"


def test_off_needs_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("vllm: off\n")
    assert recipes.read(str(tmp_path / "mine.yaml"), GRPORecipe).vllm == "off"
    assert recipes.read("mmsearch_r1_7b", GRPORecipe, ["vllm=off"]).vllm == "off"


def test_a_short_start_measures_nothing_and_says_so(recipe: GRPORecipe, capsys: pytest.CaptureFixture[str]) -> None:
    grpo.train(recipe.model_copy(update={"held_out_limit": 3, "steps": 4}), max_steps=1)
    told = " ".join(capsys.readouterr().err.split())
    assert "held-out tasks are not measured: --max-steps ends this start at step 1 of 4" in told
    assert not (recipe.output / "held_out_before.jsonl").exists()


@pytest.mark.slow
def test_a_run_shows_no_warning_of_a_library(recipe: GRPORecipe) -> None:
    """A program of its own: pytest would hide its warnings and turn some into errors."""
    path = recipe.output.parent / "mine.yaml"
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    ran = [sys.executable, "-W", "default", "-m", "lensgraph.rl.train", "--recipe", str(path)]
    done = subprocess.run(ran, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "Warning" in line or "deprecated" in line] == []


@pytest.mark.parametrize(
    ("stage", "options"), [("sight", ["size={picture_tokens: 9}"]), ("sft", ["size={picture_tokens: 9}"])]
)
def test_a_dry_run_leaves_nothing_behind(
    stage: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([stage, "--dry-run", *options]) == 0
    assert "nothing was trained" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_distance_counts_the_tokens_of_the_loss() -> None:
    inputs = {
        "completion_mask": torch.tensor([[1, 1, 0]]), "tool_mask": torch.tensor([[1, 0, 1]]),
        "recorded_logps": torch.tensor([[-1.0, -9.0, -9.0]]),
    }  # fmt: skip
    assert training_metrics.distance(torch.tensor([[-1.5, 0.0, 0.0]]), inputs).tolist() == [[0.5, 1.0, 0.5]]


def scored(monkeypatch: pytest.MonkeyPatch, dull: str) -> None:
    """Rollouts earn their number, except those of tasks whose id ends with a letter of `dull`: all the same."""

    async def score(self: EpisodeReward, trajectory: Trajectory, task: Task) -> dict[str, float]:
        number = int(trajectory.id.partition("#")[2].partition("@")[0])
        return {"total": 0.5 if task.id[-1] in dull else float(number % 4)}

    monkeypatch.setattr(EpisodeReward, "__call__", score)


@pytest.mark.parametrize(("dull", "left"), [("", 0.0), ("01", 0.0), ("01234567", 1.0)])
def test_groups_that_teach_nothing_are_refilled(
    recipe: GRPORecipe, dull: str, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, dull)
    tasks = [replace(task, id=f"t{n}") for n, task in enumerate(load_tasks("world/train", 8))]
    monkeypatch.setattr(grpo, "chosen_tasks", lambda recipe: tasks)
    batches: list[list[str]] = []
    stock = GraphGRPOTrainer._as_trl
    monkeypatch.setattr(
        GraphGRPOTrainer, "_as_trl",
        lambda self, made: batches.append([one.trajectory.id for one in made]) or stock(self, made),
    )  # fmt: skip
    grpo.train(recipe.model_copy(update={"refill": 2, "prompts": 4, "batch": 8, "seed": 3}))
    (ids,), log = batches, log_of(recipe)
    trained = [identity.partition("#")[0] for identity in ids[::4]]
    assert len(set(ids)) == 16
    assert log["refill/without_signal"] == left
    if left == 0:
        assert not set(trained) & {f"t{letter}" for letter in dull}
    kept = [one.id for one in TrajectoryStore(recipe.output / "trajectories")]
    assert len(set(kept)) == len(kept) == 16 + round(16 * log["refill/episodes"])
    assert log["refill/episodes"] == (0.0 if not dull else 1.0 if left else log["refill/episodes"])
    assert log["frac_reward_zero_std"] == left


@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_the_best_policy_is_kept(
    recipe: GRPORecipe, lora: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its adapters merged, so that it can be asked and trained on like any other."""
    scored(monkeypatch, "")
    accuracies = {"step_1": 0.5, "step_2": 1.0, "step_3": 0.5}
    measured: dict[str, dict[str, torch.Tensor]] = {}

    def evaluate(tasks: list[Task], *, policy: Any, records: Path, **rest: Any) -> list[Record]:
        name = records.stem.removeprefix("held_out_")
        measured[name] = {key: value.clone() for key, value in pocket_network.merged(policy.network).items()}
        right = round(accuracies.get(name, 0.0) * len(tasks))
        return [replace(failed(task, ValueError()), correct=n < right) for n, task in enumerate(tasks)]

    monkeypatch.setattr(held_out, "evaluate", evaluate)
    monkeypatch.setattr(held_out, "report", lambda *rest: [])
    changes = {"steps": 4, "held_out_limit": 2, "lora": lora, "learning_rate": 1e-2, "eval_every": 1}
    grpo.train(recipe.model_copy(update=changes))
    assert list(measured) == ["before", "step_1", "step_2", "step_3", "after"]
    best = recipe.output / "best"
    assert json.loads((best / "held_out.json").read_text())["step"] == 2
    assert [row["step"] for row in jsonl.peek(recipe.output / "log.jsonl") if "held_out/accuracy" in row] == [1, 2, 3]
    kept = pocket_network.load_network(best).state_dict()
    assert all(torch.equal(kept[name], measured["step_2"][name].bfloat16().float()) for name in measured["step_2"])
    assert any(not torch.equal(measured["step_2"][name], measured["step_1"][name]) for name in kept)
