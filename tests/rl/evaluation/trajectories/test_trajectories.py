"""Recorded trajectories: each policy by itself, counted, shown, and exported as training data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation.trajectories.export import export
from lensgraph.rl.evaluation.trajectories.stats import stats
from lensgraph.rl.network import checkpointing
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rollout.trajectory import (
    TrajectoryStore,
)

from ...rollout.conftest import PICTURES, a_trajectory, said


def test_the_statistics_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(a_trajectory(), PICTURES)
    store.append(a_trajectory(1, correct=False, reward={"total": 0.1}), PICTURES)
    figures = stats(store)
    assert (figures["episodes"], figures["accuracy"]) == (2, 0.5)
    assert figures["reward"] == pytest.approx(0.505)
    assert figures["nodes"]["image_search"]["price"] == 0.01
    assert figures["decisions"]["reason"]["answer"] == {"count": 2, "accuracy": 0.5, "reward": pytest.approx(0.505)}
    assert figures["edges"]["reason -> image_search"] == 2
    assert main(["trajectories", "stats", str(tmp_path)]) == 0
    assert main(["trajectories", "show", str(tmp_path), "t0#0"]) == 0
    shown = capsys.readouterr().out
    assert "image_search" in shown
    assert "box (1, 2, 3, 4)" in shown
    assert re.search(r"reason\s*│\s*answer\s*│\s*2", shown)
    assert main(["trajectories", "stats", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2


def test_an_export_is_what_sft_takes(tmp_path: Path) -> None:
    from datasets import load_from_disk

    store = TrajectoryStore(tmp_path / "store")
    store.append(a_trajectory(), PICTURES)
    store.append(a_trajectory(1, correct=False), PICTURES)
    assert export(store, tmp_path / "out.jsonl", right=True) == 1
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [Path(name).read_bytes() for name in row["images"]] == [PICTURES["a"], PICTURES["b"]]
    assert all(Path(name).is_absolute() for name in row["images"])
    assert export(store, tmp_path / "data") == 2
    data = load_from_disk(str(tmp_path / "data"))
    assert set(data.column_names) == {"messages", "images"}
    assert data[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert [part["type"] for part in data[0]["messages"][0]["content"]] == ["image", "text"]


@pytest.mark.parametrize("form", ["folder", "jsonl"])
def test_trl_s_own_trainer_learns_the_policys_turns_from_an_export_and_nothing_else(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the help of `export` says, and from any working folder; also next to rows without a picture."""
    from datasets import load_dataset, load_from_disk
    from trl import SFTConfig, SFTTrainer

    store = TrajectoryStore(tmp_path / "store")
    for number in range(4):
        store.append(a_trajectory(number), PICTURES)
    blind = (said("user", "hello"), said("assistant", "<answer>x</answer>"))
    store.append(a_trajectory(4, messages=blind, pictures=()), {})
    monkeypatch.chdir(tmp_path)
    if form == "folder":
        export(store, Path("data"))
    else:
        Path("kept").mkdir()
        export(store, Path("kept/out.jsonl"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    network = pocket.build_network(processor, PocketSize(**tiny_size))
    before = network.lm_head.weight.detach().clone()
    options = SFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=5, max_length=None, use_cpu=True,
        bf16=False, **checkpointing.argument(False), report_to=[], save_strategy="no", learning_rate=1e-2,
        assistant_only_loss=True,
    )  # fmt: skip
    if form == "folder":
        data = load_from_disk(str(tmp_path / "data"))
    else:
        files = str(tmp_path / "kept" / "out.jsonl")
        data = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    trainer = SFTTrainer(model=network, args=options, train_dataset=data, processing_class=processor)
    (batch,) = trainer.get_train_dataloader()
    labelled = [
        processor.tokenizer.decode([token for token in row.tolist() if token != -100]) for row in batch["labels"]
    ]
    own = "s<|im_end|>x<|im_end|>"
    assert sorted(labelled) == sorted([own] * 4 + ["<answer>x</answer><|im_end|>"])
    trainer.train()
    assert not torch.equal(network.lm_head.weight, before)


def test_trajectories_are_recorded_once(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained policy never gets to a tool; what it says is kept all the same."""
    size = PocketSize(**tiny_size)
    pocket.save(pocket.build_network(processor, size), processor, tmp_path / "policy")
    settings = ["--limit", "3", "--rollouts", "2", f"policy.model={tmp_path / 'policy'}", "policy.max_new_tokens=6"]
    assert main(["trajectories", "record", "--out", str(tmp_path / "kept"), *settings]) == 0
    kept = list(TrajectoryStore(tmp_path / "kept"))
    assert len({one.id for one in kept}) == len(kept) == 6
    assert all(sum(one.mask) for one in kept)
    assert main(["trajectories", "record", "--out", str(tmp_path / "kept"), *settings]) == 0
    assert len(list(TrajectoryStore(tmp_path / "kept"))) == 6
    assert "0 trajectories added" in capsys.readouterr().out


def test_each_policy_and_graph_of_a_folder_is_recorded_by_itself_and_rewarded(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also another training of the same name; the reward is that of the recipe that is named."""
    size, kept = PocketSize(**tiny_size), TrajectoryStore(tmp_path / "kept")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: 3\nreward: {format_weight: 0.5}\n")
    settings = ["--limit", "2", f"policy.model={tmp_path / 'policy'}", "policy.max_new_tokens=6"]
    settings += ["--out", str(tmp_path / "kept"), "--recipe", str(recipe)]
    for seed in (0, 1):
        pocket.save(pocket.build_network(processor, size, seed=seed), processor, tmp_path / "policy")
        assert main(["trajectories", "record", *settings]) == 0
    assert main(["trajectories", "record", *settings, "--graph", "direct"]) == 0
    made = list(kept)
    assert len(made) == 6
    first, second = sorted({one.policy for one in made}, key=[one.policy for one in made].index)
    assert [one.policy for one in made] == [first] * 2 + [second] * 4
    for one in made:
        assert one.reward is not None
        assert one.reward["total"] == 0.5 * one.correct + 0.5 * one.well_formed
    capsys.readouterr()
    assert main(["trajectories", "stats", str(tmp_path / "kept"), "--json", "--policy", first]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert main(["trajectories", "show", str(tmp_path / "kept"), "--policy", "nobody"]) == 2
    assert "no policy 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["record", "--out", "{}", "--tasks", "world/nothing"], "world/nothing"),
        (["record", "--out", "{}", "--recipe", "nothing"], "no recipe 'nothing'"),
        (["record", "--out", "{}", "polcy.model=x"], "polcy"),
        (["record", "--out", "{}", "--graph", "nothing"], "package.module:attribute"),
        (["stats", "{}/nothing"], "no trajectories there"),
        (["show", "{}", "t9#0"], "no trajectory 't9#0'"),
        (["export", "{}", "{}"], "exists"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TrajectoryStore(tmp_path).append(a_trajectory(), PICTURES)
    assert main(["trajectories", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert says in capsys.readouterr().err
