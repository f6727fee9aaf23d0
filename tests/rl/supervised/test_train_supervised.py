"""The cold start trains what it should, and goes on after an interruption."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from langchain_core.messages import HumanMessage
from PIL import Image
from transformers import TrainerCallback

from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.rl import recipes, train
from lensgraph.rl.pocket import demonstrations, pocket_network
from lensgraph.rl.pocket.vision_recipe import SightRecipe
from lensgraph.rl.rollout.trajectory import Said, Seen, Trajectory, TrajectoryStore
from lensgraph.rl.run import trackers
from lensgraph.rl.run.run_folder import RECIPE, keep_recipe, remove_half_checkpoints, whole_checkpoint
from lensgraph.rl.supervised import train_supervised as sft
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.rl.supervised.start import start
from lensgraph.rl.supervised.trajectory_rows import TrajectoryRows


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


def _killed_while_saving(recipe: SFTRecipe, step: int) -> None:
    """The rest of the checkpoint of `step` after a kill: weights, and half of the file that is written last."""
    whole = recipe.output / "checkpoints" / f"checkpoint-{step - 1}"
    half = shutil.copytree(whole, whole.with_name(f"checkpoint-{step}"))
    for name in ("optimizer.pt", "scheduler.pt"):
        (half / name).unlink()
    (half / "trainer_state.json").write_text((whole / "trainer_state.json").read_text()[:40])


def test_a_run_killed_before_its_first_checkpoint_starts_over(recipe: SFTRecipe, tmp_path: Path) -> None:
    policy = sft.train(recipe.model_copy(update={"steps": 2}), resume=True)
    assert policy is not None
    assert (policy / "model.safetensors").is_file()


def test_a_run_killed_while_it_saved_goes_on_from_the_checkpoint_before(recipe: SFTRecipe, tmp_path: Path) -> None:
    """And a finished run trains no further step."""
    chosen = recipe.model_copy(update={"save_every": 1})
    sft.train(chosen, max_steps=2)
    _killed_while_saving(chosen, 3)
    assert whole_checkpoint(chosen.output) == chosen.output / "checkpoints" / "checkpoint-2"
    remove_half_checkpoints(chosen.output)  # the trainer would keep it in a whole one's place
    left = {folder.name for folder in (chosen.output / "checkpoints").glob("checkpoint-*")}
    assert left == {"checkpoint-1", "checkpoint-2"}
    _killed_while_saving(chosen, 3)
    (chosen.output / "log.jsonl").unlink()
    policy = sft.train(chosen, resume=True)
    assert policy is not None
    logged = [json.loads(line) for line in (chosen.output / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if "loss" in row] == [3, 4]
    before = (policy / "model.safetensors").read_bytes()
    sft.train(chosen, resume=True)
    assert (policy / "model.safetensors").read_bytes() == before


def test_demonstrations_of_a_killed_build_do_not_pass_for_all(
    recipe: SFTRecipe, demonstration_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on beside the file's place, and take it when they are whole."""
    whole = demonstration_file.read_text()
    lines = whole.splitlines(keepends=True)

    def killed(path: Path) -> None:
        path.write_text("".join(lines[:3]))
        raise KeyboardInterrupt

    def goes_on(path: Path) -> None:
        assert path.read_text() == "".join(lines[:3])
        path.write_text(whole)

    chosen = recipe.model_copy(update={"demonstrations": tmp_path / "made.jsonl"})
    monkeypatch.setattr(demonstrations, "make", killed)
    with pytest.raises(KeyboardInterrupt):
        start(chosen)
    assert not chosen.demonstrations.exists()
    monkeypatch.setattr(demonstrations, "make", goes_on)
    start(chosen)
    assert chosen.demonstrations.read_text() == whole


def test_demonstrations_of_an_earlier_version_are_told(recipe: SFTRecipe, demonstration_file: Path) -> None:
    rows = [json.loads(line) for line in demonstration_file.read_text().splitlines()]
    text = "".join(json.dumps({key: value for key, value in row.items() if key != "manner"}) + "\n" for row in rows)
    demonstration_file.write_text(text)
    with pytest.raises(ValueError, match="delete their file"):
        sft.train(recipe, dry_run=True)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_no_run(recipe: SFTRecipe, steps: int) -> None:
    with pytest.raises(ValueError, match=f"--max-steps {steps}: a run takes at least one step"):
        sft.train(recipe, max_steps=steps)


def test_the_output_keeps_the_recipe_and_goes_on_with_the_same_rows_only(
    recipe: SFTRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that change no row may change, such as a run's length."""
    sft.train(recipe, max_steps=2)
    kept = recipe.output / RECIPE
    assert recipes.read(str(kept), SFTRecipe) == recipe
    for name, value in (("seed", 5), ("batch", 2), ("worn_share", 0.5)):
        with pytest.raises(ValueError, match=f"^{name}={value} would change the order of the data .* {name}="):
            sft.train(recipe.model_copy(update={name: value}), resume=True)
    with monkeypatch.context() as elsewhere:  # every process brings rows of its own
        elsewhere.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="^2 processes or GPUs would change the order of the data .* begun with 1"):
            sft.train(recipe, resume=True)
    sft.train(recipe.model_copy(update={"steps": 3}), resume=True)
    assert recipes.read(str(kept), SFTRecipe).steps == 3


class Noting(TrainerCallback):
    """Stands for a tracker: notes what is logged."""

    noted: ClassVar[list[dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.noted.append(dict(logs or {}))


def test_metrics_go_to_the_trackers_that_are_named(recipe: SFTRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "noting", Noting)
    monkeypatch.setattr(Noting, "noted", [])
    sft.train(recipe.model_copy(update={"trackers": ["noting"], "steps": 2}))
    assert sum("loss" in logs for logs in Noting.noted) == 2


def test_a_tracker_that_is_not_here_is_told_before_anything_is_loaded(
    recipe: SFTRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise RuntimeError("NotingCallback requires noting to be installed. Run `pip install noting`.")

    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "noting", absent)
    with pytest.raises(ValueError, match="trackers: noting is not installed here; pip install noting"):
        sft.train(recipe.model_copy(update={"trackers": ["noting"]}), dry_run=True)
    with pytest.raises(ValueError, match="trackers: there is no 'nonsense'; use one of .*tensorboard"):
        sft.train(recipe.model_copy(update={"trackers": ["nonsense"]}))
    assert not recipe.output.exists()


def _teacher(folder: Path) -> TrajectoryStore:
    store = TrajectoryStore(folder)
    for number, right in enumerate((True, False, True)):
        out = io.BytesIO()
        Image.new("RGB", (56, 56), (40 * number, 90, 90)).save(out, "PNG")
        said = (
            Said("user", ({"type": "image", "id": f"p{number}"}, {"type": "text", "text": "Which country?"})),
            Said("assistant", ({"type": "text", "text": f"<answer>Kenya {number}</answer>"},)),
        )
        trajectory = Trajectory(
            id=f"t{number}#0", task=f"t{number}", family="", knowledge="", question="", golds=(), graph="search_agent",
            dialect="compact", policy="teacher", temperature=1.0, correct=right, messages=said,
            pictures=(Seen(f"p{number}", (1, 4, 4)),),
        )  # fmt: skip
        store.append(trajectory, {f"p{number}": out.getvalue()})
    return store


@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_trajectories_of_a_teacher_are_imitated(
    recipe: SFTRecipe, tmp_path: Path, lora: dict | None, processor, renderer
) -> None:
    store = _teacher(tmp_path / "teacher")
    rows = TrajectoryRows(store, renderer, seed=0)
    assert len(rows.right) == 2
    assert sorted(len(rows.row(n).pixels) for n in range(4)) == [1, 1, 1, 1]
    said = [i for i, m in zip(rows.row(0).ids, rows.row(0).mask, strict=True) if m]
    assert renderer.tokenizer.decode(said).startswith("<answer>Kenya")
    pocket_network.save(pocket_network.build_network(processor, recipe.size), processor, tmp_path / "base")
    chosen = {"start_from": tmp_path / "base", "trajectories": tmp_path / "teacher", "lora": lora}
    before = _weights(tmp_path / "base")
    after = _weights(sft.train(recipe.model_copy(update=chosen)))
    assert "cross-entropy, nats a token" in (recipe.output / "policy" / "README.md").read_text()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in moved)
    assert any("visual" in name for name in moved) == (lora is None)


def test_the_learning_rate_falls_by_a_cosine(recipe: SFTRecipe) -> None:
    sft.train(recipe.model_copy(update={"warmup_steps": 0, "steps": 6, "decay_steps": 4}))
    rows = [json.loads(line) for line in (recipe.output / "log.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] / recipe.learning_rate for row in rows if "loss" in row]
    wanted = [0.5 * (1 + math.cos(math.pi * done / 4)) for done in (0, 0, 0, 1, 2, 3)]
    assert rates == pytest.approx(wanted)


def test_imitation_needs_a_teacher_and_a_pupil(recipe: SFTRecipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs start_from"):
        sft.train(recipe.model_copy(update={"trajectories": tmp_path}))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"freeze_vision": True}, "freeze_vision=true of a new network would keep a blind tower"),
        ({"trajectories": "t", "start_from": "p", "lookalike_share": 0.5}, "leave them out with trajectories="),
    ],
)
def test_a_tower_or_flags_that_have_no_place_are_refused(changed: dict[str, Any], says: str, recipe: SFTRecipe) -> None:
    with pytest.raises(ValueError, match=says):
        sft.train(SFTRecipe(**{**recipe.model_dump(), **changed}))
    assert not recipe.output.exists()


def test_a_field_that_is_younger_than_the_run_was_at_its_default(recipe: SFTRecipe) -> None:
    keep_recipe(recipe.output, recipe, resume=False)
    kept = recipe.output / RECIPE
    kept.write_text("".join(line for line in kept.read_text().splitlines(True) if "lookalike_share" not in line))
    with pytest.raises(ValueError, match=r"lookalike_share=0.5 would change .* begun with lookalike_share=0.0"):
        keep_recipe(recipe.output, recipe.model_copy(update={"lookalike_share": 0.5}), resume=True)
    keep_recipe(recipe.output, recipe, resume=True)


def test_a_frozen_tower_stays_and_its_merger_learns(recipe: SFTRecipe, tmp_path: Path) -> None:
    first = sft.train(recipe)
    assert first is not None
    chosen = recipe.model_copy(update={"start_from": first, "freeze_vision": True, "output": tmp_path / "second"})
    before, after = _weights(first), _weights(sft.train(chosen))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if "visual.blocks" in name or "visual.patch_embed" in name]
    assert [name for name in moved if "visual.merger" in name]
    assert [name for name in moved if "language_model" in name]


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
    for name in ("world_sft", "world_sft_longer", "world_sft_wary", "deepmmsearch_r1_7b_sft"):
        assert recipes.read(name, SFTRecipe).steps > 0
    assert recipes.read("world_sight", SightRecipe).steps > 0


def test_a_dry_run_shows_a_row_and_trains_nothing(recipe: SFTRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert sft.train(recipe, dry_run=True) is None
    assert "nothing was trained" in capsys.readouterr().err
    assert not recipe.output.exists()
    with pytest.raises(ValueError, match="max_length=20"):
        sft.train(recipe.model_copy(update={"max_length": 20}), dry_run=True)
