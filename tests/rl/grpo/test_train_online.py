"""A recipe becomes an online run: measured before and after, drawn, resumable, and dry on request."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import TrainerCallback, TrainerState, TrainingArguments

import lensgraph
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.rl import recipes, train
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation import balance
from lensgraph.rl.evaluation.balance import label, sample
from lensgraph.rl.grpo import train_online as grpo
from lensgraph.rl.grpo.build_trainer import arguments
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.grpo.resuming import REWARD_STATE, SaveRewardState
from lensgraph.rl.pocket import pocket_network
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rewards.reward_recipe import RewardRecipe
from lensgraph.rl.rollout.episode import Rollout
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStep, TrajectoryStore
from lensgraph.rl.run import jsonl, trackers
from lensgraph.rl.run.progress_plot import draw
from lensgraph.rl.run.run_folder import RECIPE, whole_checkpoint
from lensgraph.rl.tasks import Task, load_tasks


@pytest.fixture
def recipe(tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int]) -> GRPORecipe:
    """Two steps of a tiny network that knows nothing; no tool is ever called."""
    size = PocketSize(**tiny_size)
    pocket_network.save(pocket_network.build_network(processor, size), processor, tmp_path / "base")
    return GRPORecipe(
        start_from=str(tmp_path / "base"), output=tmp_path / "run", task_limit=6, held_out_limit=3, steps=2, prompts=2,
        generations=4, batch=4, max_new_tokens=6, concurrent=8, save_every=1,
    )  # fmt: skip


def test_a_run_is_measured_drawn_and_leaves_a_policy(recipe: GRPORecipe) -> None:
    policy = grpo.train(recipe)
    assert policy is not None
    assert (policy / "model.safetensors").is_file()
    assert (recipe.output / "plot.png").stat().st_size > 1000
    assert set(json.loads((recipe.output / "held_out.json").read_text())) == {"before", "after"}
    head, body = ModelCard.load(policy / "README.md").data, (policy / "README.md").read_text()
    assert (head.pipeline_tag, head.library_name, head.base_model) == ("image-text-to-text", "transformers", None)
    assert "### Before training: search_agent on world/validation, greedy" in body
    assert "### After training" in body
    assert f"max_new_tokens: {recipe.max_new_tokens}" in body
    kept = list(TrajectoryStore(recipe.output / "trajectories"))
    assert len(kept) == 16
    assert {trajectory.step for trajectory in kept} == {0, 1}


def test_a_resumed_run_goes_on_with_the_same_tasks(recipe: GRPORecipe, tmp_path: Path) -> None:
    grpo.train(recipe, max_steps=1)
    grpo.train(recipe, resume=True)
    whole = recipe.model_copy(update={"output": tmp_path / "whole", "held_out_limit": 0})
    grpo.train(whole)

    # a kill after the checkpoint: the step that was under way is made again, and counts once
    store = TrajectoryStore(recipe.output / "trajectories")
    assert {trajectory.step for trajectory in store} == {0, 1}

    def order(folder: Path) -> list[tuple[int | None, str]]:
        return [(trajectory.step, trajectory.task) for trajectory in TrajectoryStore(folder / "trajectories")]

    assert sorted(order(recipe.output), key=str) == sorted(order(whole.output), key=str)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["grpo"]),
        (["--resume"], ["grpo", "--resume"]),
        (["steps=2", "--dry-run"], ["grpo", "steps=2", "--dry-run"]),
        (["--recipe", "world_grpo"], ["grpo", "--recipe", "world_grpo"]),
        (["sft", "--resume"], ["sft", "--resume"]),
        (["--help"], ["--help"]),
        (["nothing"], ["nothing"]),
    ],
)
def test_without_a_stage_it_is_the_online_one(given: list[str], meant: list[str]) -> None:
    assert train.with_stage(given) == meant


def test_a_resumption_needs_no_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[Any, bool]] = []
    monkeypatch.setattr(grpo, "train", lambda recipe, **options: asked.append((recipe, options["resume"])))
    assert train.main(["--resume", f"output={tmp_path}"]) == 0
    assert [(recipe.output, resume) for recipe, resume in asked] == [(tmp_path, True)]


def test_the_memory_for_earlier_turns_is_a_recipes(recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    stock = TransformersPolicy.submit

    def noted(self: TransformersPolicy, *args: Any) -> Any:
        given.append(self.reuse_bytes)
        return stock(self, *args)

    monkeypatch.setattr(TransformersPolicy, "submit", noted)
    grpo.train(recipe.model_copy(update={"reuse_bytes": 4096, "held_out_limit": 1}), max_steps=1)
    assert set(given) == {4096}


def test_the_progress_tells_where_the_seconds_go(recipe: GRPORecipe, capsys: pytest.CaptureFixture[str]) -> None:
    grpo.train(recipe.model_copy(update={"held_out_limit": 0}), max_steps=1)
    printed = capsys.readouterr()
    assert "{'loss'" not in printed.out
    told = " ".join(printed.err.split())
    seconds = re.search(r"rollout ([\d.]+) \(policy ([\d.]+), tools ([\d.]+)\), update ([\d.]+)", told)
    assert seconds is not None, told
    assert float(seconds[1]) > 0
    assert 0 < float(seconds[2]) < float(seconds[1]) + 0.1
    assert float(seconds[4]) > 0
    assert {"accuracy", "searches", "malformed", "reward"} <= set(told.split())


Trained = list[tuple[int, tuple[tuple[int, ...], ...]]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """(step, rows) of every forward pass of the training: what the loss is made of."""
    passes: Trained = []
    stock = GraphGRPOTrainer._compute_loss

    def noted(self: GraphGRPOTrainer, model: Any, inputs: dict[str, Any]) -> Any:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1).bool()
        passes.append((self.state.global_step, tuple(tuple(row[m].tolist()) for row, m in zip(ids, mask, strict=True))))
        return stock(self, model, inputs)

    monkeypatch.setattr(GraphGRPOTrainer, "_compute_loss", noted)
    return passes


@pytest.mark.parametrize(
    ("changes", "steps", "kills"),
    [
        # 3 batches of rollouts an epoch: the second epoch has an order of its own
        ({}, 5, (2, 3, 4)),
        ({"updates": 2, "batch": 4}, 5, (1, 2, 3)),
        ({"updates": 2, "num_iterations": 2, "batch": 2}, 6, (1, 2, 3, 5)),
    ],
    ids=["an epoch", "updates", "iterations"],
)
def test_a_kill_at_any_step_goes_on_with_the_same_tasks_and_rows(
    recipe: GRPORecipe, tmp_path: Path, trained: Trained, changes: dict[str, int], steps: int, kills: tuple[int, ...]
) -> None:
    """Every kill is followed by a resumption; batches of rollouts that serve several steps are neither lost nor repeated."""
    recipe = recipe.model_copy(update={"held_out_limit": 0, "steps": steps, **changes})
    grpo.train(recipe.model_copy(update={"output": tmp_path / "whole"}))
    passes_a_step = len(trained) // steps
    trained.clear()
    for n, kill in enumerate(kills):
        grpo.train(recipe, resume=n > 0, max_steps=kill)
    grpo.train(recipe, resume=True)

    def order(folder: Path) -> list[tuple[int | None, str]]:
        kept = TrajectoryStore(folder / "trajectories")
        return sorted(((one.step, one.task) for one in kept), key=str)

    assert order(recipe.output) == order(tmp_path / "whole")
    assert [step for step, _ in trained] == [step for step in range(steps) for _ in range(passes_a_step)]
    # each batch of rollouts, as it was kept, is what its steps were trained on, as often as there are iterations
    span = recipe.updates * recipe.num_iterations
    made: defaultdict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for one in TrajectoryStore(recipe.output / "trajectories"):
        assert one.step is not None
        made[one.step // span][one.ids] += recipe.num_iterations
    used: defaultdict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for step, rows in trained:
        used[step // span].update(rows)
    whole = steps // span
    assert whole
    assert {batch: used[batch] for batch in range(whole)} == {batch: made[batch] for batch in range(whole)}


def test_a_checkpoint_holds_the_shadow_price(recipe: GRPORecipe) -> None:
    prices = {"image_search": 0.1, "text_search": 0.1}
    rule = RewardRecipe(rule="priced", prices=prices, budget=0.5)
    priced = recipe.model_copy(update={"held_out_limit": 0, "reward": rule})
    grpo.train(priced, max_steps=1)
    saved = recipe.output / "checkpoints" / "checkpoint-1" / REWARD_STATE
    assert json.loads(saved.read_text())["shadow_price"] == pytest.approx(0.9)  # nothing was searched: 1 - 0.1
    saved.write_text('{"shadow_price": 5.0}')
    grpo.train(priced, resume=True)
    last = recipe.output / "checkpoints" / "checkpoint-2" / REWARD_STATE
    assert json.loads(last.read_text())["shadow_price"] == pytest.approx(4.9)


def test_a_run_killed_before_its_first_checkpoint_starts_over(recipe: GRPORecipe) -> None:
    """And half a checkpoint is no checkpoint, and a finished run trains no further step."""
    short = recipe.model_copy(update={"held_out_limit": 0})
    kept = TrajectoryStore(recipe.output / "trajectories")
    grpo.train(short, max_steps=1)
    shutil.rmtree(recipe.output / "checkpoints")
    grpo.train(short, resume=True)
    assert Counter(one.step for one in kept) == {0: 8, 1: 8}
    (recipe.output / "checkpoints" / "checkpoint-2" / REWARD_STATE).unlink()
    assert whole_checkpoint(recipe.output, also=(REWARD_STATE,)) == recipe.output / "checkpoints" / "checkpoint-1"
    grpo.train(short, resume=True)
    before = (recipe.output / "policy" / "model.safetensors").read_bytes()
    grpo.train(short, resume=True)
    assert Counter(one.step for one in kept) == {0: 8, 1: 8}
    assert (recipe.output / "policy" / "model.safetensors").read_bytes() == before


def test_a_second_run_does_not_mix_with_the_first(recipe: GRPORecipe, capsys: pytest.CaptureFixture[str]) -> None:
    grpo.train(recipe.model_copy(update={"held_out_limit": 0}), max_steps=1)
    with pytest.raises(FileExistsError, match="--resume"):
        grpo.train(recipe)


def test_lora_with_a_reference_and_two_passes(recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are trained, the reference is the policy without them, and the finished policy holds them merged in."""

    async def every_other(self: EpisodeReward, trajectory: Trajectory, task: Task) -> dict[str, float]:
        number = trajectory.id.partition("#")[2].partition("@")[0]
        return {"total": float(int(number) % 2)}  # every group has both rewards, whatever was sampled

    monkeypatch.setattr(EpisodeReward, "__call__", every_other)
    changes = {"lora": {"r": 4}, "beta": 0.05, "num_iterations": 2, "held_out_limit": 0, "learning_rate": 1e-2}
    recipe = recipe.model_copy(update={**changes, "warmup_steps": 0, "schedule": "constant"})
    policy = grpo.train(recipe)
    assert policy is not None
    before = pocket_network.load_network(Path(recipe.start_from)).state_dict()
    after = pocket_network.load_network(policy).state_dict()
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("q_proj" in n or "k_proj" in n or "v_proj" in n or "o_proj" in n for n in changed)
    steps = [row for row in map(json.loads, (recipe.output / "log.jsonl").read_text().splitlines()) if "kl" in row]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)  # the first pass is still the reference
    assert steps[1]["kl"] > 1e-6


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_share_a_step(recipe: GRPORecipe) -> None:
    """Each makes half of the rollouts and writes them to a file of its own; both end with the same weights."""
    path = recipe.output.parent / "recipe.yaml"
    values = recipe.model_copy(update={"held_out_limit": 0}).model_dump(mode="json")
    path.write_text(yaml.safe_dump(values))
    done = _two_processes("-m", "rl.train", "grpo", "--recipe", str(path))
    assert done.returncode == 0, done.stderr[-2000:]
    kept = recipe.output / "trajectories"
    written = [len(path.read_text().splitlines()) for path in sorted(kept.glob("trajectories-*.jsonl"))]
    assert written == [8, 8]
    groups = Counter((one.step, one.task) for one in TrajectoryStore(kept))
    assert set(groups.values()) == {recipe.generations}
    assert (recipe.output / "policy" / "model.safetensors").is_file()
    logged = [row for row in map(json.loads, (recipe.output / "log.jsonl").read_text().splitlines()) if "reward" in row]
    assert len(logged) == recipe.steps
    for row in logged:  # what the main process logs is the step of both, not its own half
        made = [one for one in TrajectoryStore(kept) if one.step == row["step"] - 1]
        assert len(made) == 8
        waited = [step.seconds for one in made for step in one.decisions]
        assert row["seconds/policy_per_episode"] == pytest.approx(sum(waited) / 8)
        assert row["completions/mean_length"] == pytest.approx(sum(sum(one.mask) for one in made) / 8)
        points = Counter((step.node, step.turn) for one in made for step in one.decisions)
        chosen = Counter((step.node, step.turn, step.kind) for one in made for step in one.decisions)
        for (node, turn, kind), count in chosen.items():
            share = row[f"decisions/{node}/turn_{turn}/{kind}/share"]
            assert share == pytest.approx(count / points[node, turn])


UNEVEN = """
import os, sys
from lensgraph.rl.grpo import train_online as grpo
from lensgraph.rl import recipes
from lensgraph.rl.rewards.episode_reward import EpisodeReward

async def chance(self, trajectory, task):  # one process's groups differ, the other's earn the same
    return {"total": float(int(trajectory.id.split("#")[1].split("@")[0]) % 2) if os.environ["RANK"] == "0" else 0.0}

EpisodeReward.__call__ = chance
recipe = recipes.read(sys.argv[1], grpo.GRPORecipe)
grpo.train(recipe, max_steps=1)
grpo.train(recipe, resume=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_with_different_rewards_train_and_resume_within_a_batch(
    recipe: GRPORecipe, tmp_path: Path
) -> None:
    """One keeps two rows of every pass and the other none, which TRL's own gathering of a value a row does not survive."""
    recipe = recipe.model_copy(update={"held_out_limit": 0, "updates": 2, "batch": 2})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (tmp_path / "uneven.py").write_text(UNEVEN)
    done = _two_processes(str(tmp_path / "uneven.py"), str(tmp_path / "recipe.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in (recipe.output / "checkpoints" / "checkpoint-1").glob("rollouts-*")} == {
        "rollouts-0.pt", "rollouts-1.pt",
    }  # fmt: skip
    assert (recipe.output / "policy" / "model.safetensors").is_file()
    shutil.rmtree(recipe.output / "checkpoints" / "checkpoint-2")
    with pytest.raises(ValueError, match="num_processes=2, not 1"):
        grpo.train(recipe, resume=True)


def _two_processes(*arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(_free_port())]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *arguments], capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(lensgraph.__file__).parents[1])},
    )  # fmt: skip


def test_a_batch_of_rollouts_is_resumed_as_it_was_cut_or_not_at_all(recipe: GRPORecipe) -> None:
    halves = recipe.model_copy(update={"held_out_limit": 0, "updates": 2})
    grpo.train(halves, max_steps=1)
    with pytest.raises(ValueError, match="per_device_train_batch_size=4, not 2"):
        grpo.train(halves.model_copy(update={"batch": 2}), resume=True)
    grpo.train(halves, resume=True)


def test_half_a_reward_memory_marks_no_checkpoint_as_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints" / "checkpoint-1"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    stock = Path.write_text

    def killed(self: Path, text: str, *args: Any) -> int:
        stock(self, text[:1], *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    memory = SaveRewardState(EpisodeReward.of(RewardRecipe(), None))
    state = TrainerState(global_step=1, is_world_process_zero=True)
    options = TrainingArguments(output_dir=str(folder.parent), use_cpu=True)
    with pytest.raises(KeyboardInterrupt):
        memory.on_save(options, state, None)
    assert whole_checkpoint(tmp_path, also=(REWARD_STATE,)) is None
    monkeypatch.undo()
    memory.on_save(options, state, None)
    assert whole_checkpoint(tmp_path, also=(REWARD_STATE,)) == folder


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_dry_run_shows_a_trajectory_and_trains_nothing(
    recipe: GRPORecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = recipe.model_copy(update={"lora": {"r": 2}, "beta": 0.05})
    assert grpo.train(changed, dry_run=True) is None
    told = " ".join(capsys.readouterr().err.split())
    assert "8 rollouts of 2 tasks" in told
    assert "nothing was trained" in told
    distance = re.search(r"mean distance ([\d.e+-]+) nats", told)
    assert distance is not None
    assert float(distance[1]) < 1e-4  # float32 here
    assert not recipe.output.exists()


SILENT = {"kind": "lensgraph.agent.testing:ScriptedPolicy", "options": {"turns": ["?"] * 9}}
"""A judge that never gives a verdict."""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora": {"r": 4, "target_modules": ["nonsense"]}}, "nonsense"),
        ({"loss_type": "bogus"}, "bogus"),
        ({"trackers": ["nonsense"]}, "there is no 'nonsense'"),
        ({"train_nodes": ["crop"]}, "decides nothing in crop"),
        ({"graph": "elsewhere"}, "package.module:attribute"),
        ({"graph": "lensgraph.graphs.rag:build"}, "not a compiled graph"),
        ({"reward": {"match": "judge"}, "judge": SILENT}, "judge: it gave no verdict on a plain question"),
        ({"max_tokens": 64, "max_new_tokens": 60}, "sampled nothing that fits"),
    ],
)  # fmt: skip
def test_a_dry_run_finds_what_the_run_would(recipe: GRPORecipe, changes: dict[str, Any], says: str) -> None:
    values = {**recipe.model_dump(mode="json"), **changes}
    with pytest.raises(ValueError, match=says):
        grpo.train(GRPORecipe.model_validate(values), dry_run=True)


def _spoilt(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = GraphGRPOTrainer._generate_and_score_completions

    def wrong(self: GraphGRPOTrainer, inputs: Any) -> Any:
        batch = stock(self, inputs)
        spoil(self, batch)
        return batch

    monkeypatch.setattr(GraphGRPOTrainer, "_generate_and_score_completions", wrong)


def _other_ids(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> None:
    batch["completion_ids"][0, 0] = (batch["completion_ids"][0, 0] + 1) % 8 + 20


def _no_mask(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> None:
    batch["tool_mask"][0, 0] = 0


def _other_pixels(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> None:
    batch["pixel_values"] = batch["pixel_values"] * 0.9


def _other_picture(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> None:
    made = trainer.made[0]
    trainer.made[0] = replace(made, pictures={name: data + b"x" for name, data in made.pictures.items()})


def _other_weights(trainer: GraphGRPOTrainer, batch: dict[str, Any]) -> None:
    for weight in trainer.model.parameters():
        weight.data *= 1.5


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_other_ids, "would train on"),
        (_no_mask, "does not count exactly the policy's turns"),
        (_other_pixels, "are not those that the policy saw"),
        (_other_picture, "is not the one that its name is the hash of"),
        (_other_weights, "nats away in the mean"),
    ],
)
def test_a_dry_run_checks_what_it_says(
    recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch, spoil: Any, says: str
) -> None:
    _spoilt(spoil, monkeypatch)
    with pytest.raises(ValueError, match=says):
        grpo.train(recipe, dry_run=True)


def test_a_graph_may_be_given_by_its_import_path(recipe: GRPORecipe) -> None:
    changes = {"graph": "lensgraph.graphs.direct:graph", "held_out_limit": 0, "train_nodes": ["reason"]}
    grpo.train(recipe.model_copy(update=changes), max_steps=1)
    kept = list(TrajectoryStore(recipe.output / "trajectories"))
    assert {one.graph for one in kept} == {"lensgraph.graphs.direct:graph"}
    assert all(len(one.decisions) == 1 and one.error is None for one in kept)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_no_run(recipe: GRPORecipe, steps: int) -> None:
    with pytest.raises(ValueError, match=f"--max-steps {steps}: a run takes at least one step"):
        grpo.train(recipe, max_steps=steps)


def test_a_run_goes_on_with_the_same_tasks_or_not_at_all(recipe: GRPORecipe) -> None:
    """The output keeps the recipe; values that leave the order of tasks as it was may change."""
    recipe = recipe.model_copy(update={"held_out_limit": 0})
    grpo.train(recipe, max_steps=1)
    assert recipes.read(str(recipe.output / RECIPE), GRPORecipe) == recipe
    for name, value in (("seed", 3), ("task_limit", 5), ("rephrase_share", 0.25)):
        with pytest.raises(ValueError, match=f"^{name}={value} would change the order of the data"):
            grpo.train(recipe.model_copy(update={name: value}), resume=True)
    grpo.train(recipe.model_copy(update={"learning_rate": 1e-5}), resume=True)


def test_metrics_go_to_the_trackers_that_are_named(recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[dict[str, Any]] = []

    class Noting(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            noted.append(dict(logs or {}))

    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "noting", Noting)
    grpo.train(recipe.model_copy(update={"trackers": ["noting"], "held_out_limit": 0}), max_steps=1)
    assert any({"reward", "reward/match", "seconds/policy"} <= set(logs) for logs in noted)


def test_a_tracker_that_is_not_here_is_told_before_anything_is_measured(
    recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> None:
        raise RuntimeError("NotingCallback requires noting to be installed.")

    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "noting", absent)
    path = recipe.output.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert train.main(["grpo", "--recipe", str(path), "trackers=[noting]"]) == 2
    error = capsys.readouterr().err.strip()
    assert "noting is not installed here; pip install noting" in error
    assert "\n" not in error
    assert not recipe.output.exists()


def test_a_step_without_any_reward_is_told_and_a_run_of_them_ends_well(
    recipe: GRPORecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as with a judge that is down: there is a policy in the end, and no plot."""

    async def none(self: EpisodeReward, trajectory: Trajectory, task: Task) -> None:
        return None

    monkeypatch.setattr(EpisodeReward, "__call__", none)
    policy = grpo.train(recipe.model_copy(update={"held_out_limit": 0}))
    assert policy is not None
    assert (policy / "model.safetensors").is_file()
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("reward none") == 2
    assert "no plot" in told
    before = pocket_network.load_network(Path(recipe.start_from)).state_dict()
    after = pocket_network.load_network(policy).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # nothing was earned, nothing was learned


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grpo", "start_from=/no/such/folder", "held_out_limit=0"], "/no/such/folder"),
        (["grpo", "prompts=3", "generations=3", "batch=4", "--dry-run"], "do not divide"),
        (["grpo", "prompts=8", "balanced=null", "task_limit=7", "held_out_limit=0"], "there are 7 in all"),
        (["grpo", "balanced=/no/labels.jsonl"], "python -m lensgraph.rl balance"),
        (["grpo", "reward.rule=priced", "reward.prices={}"], "reward.prices"),
        (["grpo", "tasks=world/nothing"], "world/nothing"),
        (["grpo", "stepz=1"], "stepz"),
    ],
)
def test_a_recipe_that_cannot_run_ends_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP splits the weights"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ZeRO-3 splits the weights"),
    ],
)
def test_a_launcher_that_splits_the_weights_is_refused_in_one_line(
    environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variables are those that `accelerate launch --use_fsdp` and `--use_deepspeed --zero_stage 3` set."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert train.main(["grpo", "--dry-run"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


ONLINE = ["mmsearch_r1_7b", "deepmmsearch_r1_7b_grpo", "deepmmsearch_r1_7b_grpo_512"]
"""Recipes of the papers' online stages."""
DECIDING = {
    "start_from", "tasks", "graph", "steps", "prompts", "generations", "updates", "learning_rate", "warmup_steps", "schedule",
    "beta", "clip", "num_iterations", "temperature", "loss_type", "scale_rewards", "max_new_tokens", "max_tokens",
    "concurrent", "reward", "freeze_vision", "lora", "seed",
}  # fmt: skip
"""Fields that decide a paper's run: none of them is left to a default that no source speaks of."""
SOURCE = re.compile(
    r"  # .*(section \d|appendix [A-Z]\b|equation \d|figure \d|released (script|rollout|prompts)|\bours: \S|\byours; \S)"
)


@pytest.mark.parametrize("name", ["world_grpo", *ONLINE])
def test_every_online_recipe_is_complete(name: str) -> None:
    recipe = recipes.read(name, GRPORecipe)
    options = arguments(recipe.model_copy(update={"vllm": "off"}))
    assert options.steps_per_generation == options.gradient_accumulation_steps * recipe.updates
    assert options.generation_batch_size == recipe.prompts * recipe.generations


@pytest.mark.parametrize("name", [*ONLINE, "deepmmsearch_r1_7b_sft"])
def test_every_field_of_a_papers_recipe_says_where_it_is_from(name: str) -> None:
    """A section of the paper, its released code, or that the value is ours and why."""
    lines = (recipes.FOLDER / f"{name}.yaml").read_text("utf-8").splitlines()
    values = [line for line in lines if line.strip() and not line.startswith("#") and not line.endswith(":")]
    assert [line for line in values if not SOURCE.search(line)] == []


@pytest.mark.parametrize("name", ONLINE)
def test_no_deciding_field_of_a_papers_recipe_is_left_to_a_default(name: str) -> None:
    tree = yaml.safe_load((recipes.FOLDER / f"{name}.yaml").read_text("utf-8"))
    assert DECIDING - set(tree) == set()
    assert set(GRPORecipe.model_fields) >= DECIDING


def test_the_two_readings_of_a_paper_differ_where_it_contradicts_itself_only() -> None:
    one, other = (recipes.read(name, GRPORecipe).model_dump() for name in ONLINE[1:])
    assert {key for key in one if one[key] != other[key]} == {"output", "steps", "prompts", "updates"}


def test_processes_share_no_group(monkeypatch: pytest.MonkeyPatch, recipe: GRPORecipe) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    odd = recipe.model_copy(update={"prompts": 3, "batch": 2})
    with pytest.raises(ValueError, match="6 each, which splits a group of 4; make prompts a multiple of 2"):
        arguments(odd)


def test_vllm_is_told_what_it_must_not_say_and_never_waits_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the boundary: no vLLM runs here. GRPOConfig itself asks for a GPU only when it trains."""
    recipe = recipes.read("mmsearch_r1_7b", GRPORecipe).model_copy(update={"vllm": "colocate"})
    options = arguments(recipe, unsayable=[7, 9])
    assert options.generation_kwargs == {"logit_bias": {7: -100.0, 9: -100.0}}
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="use vllm=colocate"):
        arguments(recipe.model_copy(update={"vllm": "server"}))
    monkeypatch.delenv("WORLD_SIZE")
    elsewhere = recipe.model_copy(update={"vllm": "server", "vllm_url": "http://127.0.0.1:9001"})
    assert arguments(elsewhere).vllm_server_base_url == "http://127.0.0.1:9001"
    assert options.vllm_server_base_url is None


def _episode(*nodes: str, correct: bool = True) -> Trajectory:
    steps = tuple(TrajectoryStep(node, "reason", 1, 0.1, 0.0, hits=()) for node in nodes)
    return Trajectory(
        id="t#0", task="t", family="", knowledge="", question="", golds=(), graph="search_agent", dialect="compact",
        policy="", temperature=1.0, correct=correct, steps=steps,
    )  # fmt: skip


def test_a_task_is_labelled_by_its_right_episodes() -> None:
    image, both, wrong = _episode("image_search"), _episode("image_search", "text_search"), _episode(correct=False)
    assert label([wrong, wrong]) == "never_right"
    assert label([wrong, both, _episode()]) == "search_free"
    assert label([wrong, image]) == "image"
    assert label([_episode("text_search"), wrong]) == "text"
    assert label([both, both, image]) == "mixed"
    assert label([both, image]) == "image"
    with pytest.raises(ValueError, match="at least one episode"):
        label([replace(wrong, error="RuntimeError: the index is gone")])


def test_tasks_are_labelled_in_the_words_that_training_asks_them_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the rollouts in other words, which stay the same when an interrupted run goes on; a share of 0 has none."""
    tasks = load_tasks("world/train", 6)
    own = {task.id: task.question for task in tasks}
    heard: list[Task] = []

    async def rolled(order: list[Task], *rest: Any, **options: Any) -> AsyncIterator[tuple[int, Rollout]]:
        heard.extend(order)
        for n, task in enumerate(order):
            yield n, Rollout(replace(_episode("image_search"), task=task.id))

    monkeypatch.setattr(balance, "roll_all", rolled)
    arguments = ["--tasks", "world/train", "--limit", "6", "policy.kind=lensgraph.agent.testing:ScriptedPolicy"]
    arguments += ["policy.options.turns=['<answer>x</answer>']", "--out"]
    assert main(["balance", *arguments, str(tmp_path / "a.jsonl")]) == 0
    other = [task for task in heard if task.question != own[task.id]]
    assert len(heard) == 48
    assert 8 <= len(other) <= 40
    assert [row["label"] for row in jsonl.rows(tmp_path / "a.jsonl")] == ["image"] * 6
    assert [task.question for task in balance.asked(tasks[3], 8, 0.5)] == [task.question for task in heard[24:32]]
    heard.clear()
    assert main(["balance", *arguments, str(tmp_path / "b.jsonl"), "--rephrase-share", "0"]) == 0
    assert [task.question for task in heard] == [own[task.id] for task in heard]


def test_a_balanced_sample_has_the_share_and_no_dropped_task() -> None:
    rows = [{"task": f"f{n}", "label": "search_free"} for n in range(100)]
    rows += [{"task": f"i{n}", "label": "image"} for n in range(40)]
    rows += [{"task": f"m{n}", "label": "mixed"} for n in range(28)]
    rows += [{"task": f"x{n}", "label": "never_right"} for n in range(50)]
    kept = sample(rows, 0.32, random.Random(0))
    assert len(kept) == len(set(kept)) == 100
    assert sum(task[0] == "f" for task in kept) == 32
    assert not any(task[0] == "x" for task in kept)
    with pytest.raises(ValueError, match="0 search-free"):
        sample(rows[100:], 0.32, random.Random(0))


def test_a_plot_needs_a_step(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n')
    with pytest.raises(ValueError, match="no step with a reward"):
        draw(tmp_path / "log.jsonl", tmp_path / "plot.png")
