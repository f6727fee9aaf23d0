"""The graph is the rollout: what is trained is what was sampled, token by token and picture by picture."""

from __future__ import annotations

import asyncio
import inspect
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from lensgraph.agent.config import load_config
from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.qwen.batching import StaticBatching
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.testing import FixedImage, FixedLocator, FixedText
from lensgraph.rl.grpo import credit, resuming, training_metrics
from lensgraph.rl.grpo import grpo_trainer as graph_trainer
from lensgraph.rl.grpo.credit import decision_advantages
from lensgraph.rl.grpo.finished_pixels import pixels_as_pictures
from lensgraph.rl.grpo.generation import EnginePolicy, GraphRollouts
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.grpo.training_metrics import Decision
from lensgraph.rl.grpo.zero_advantage import worth_a_pass
from lensgraph.rl.network import checkpointing
from lensgraph.rl.network.collate import check_pictures
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rollout import wait_clock
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.failures import TooManyFailed
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore
from lensgraph.rl.rollout.wait_clock import WaitClock
from lensgraph.rl.run import sharded
from lensgraph.rl.tasks import Task

SEARCH, CROP = "<img_search><img></img_search>", "<img_search>the flag</img_search>"
TEXT, ANSWER = "<text_search>{}</text_search>", "<answer>{}</answer>"


class Actor:
    """Says random ids inside well-formed turns, and notes what it said."""

    def __init__(self, renderer: Renderer, seed: int = 0) -> None:
        self.renderer, self.rng = renderer, random.Random(seed)
        tokenizer = renderer.tokenizer
        tags = {tokenizer.convert_tokens_to_ids(tag) for tag in (*pocket.TAGS, *pocket.SPECIAL)}
        self.vocabulary = [i for i in range(len(tokenizer)) if i not in tags]
        self.said: list[list[int]] = []

    def turn(self, rendered: Rendered) -> list[int]:
        """One turn after `rendered`: an answer more and more likely."""
        encode = self.renderer.tokenizer.encode
        noise = self.rng.choices(self.vocabulary, k=self.rng.randint(1, 12))
        turns = sum(1 for a, b in zip(rendered.mask, rendered.mask[1:], strict=False) if a and not b)
        if turns >= 4 or self.rng.random() < 0.25:
            return [*encode(ANSWER.format("x"), add_special_tokens=False), self.renderer.eos]
        action = self.rng.choice((SEARCH, CROP, TEXT.format("q"), "cut"))
        if action == "cut":  # a turn that the length limit cut: malformed, and without its end
            return noise
        return [*noise, *encode(action, add_special_tokens=False), self.renderer.eos]

    def sample(self, batch: Sequence[Rendered]) -> list[Sampled]:
        """The result of a policy's `sample`."""
        rows = []
        for row in batch:
            ids = self.turn(row)
            self.said.append(ids)
            rows.append(Sampled(ids, [-1.0] * len(ids)))
        return rows


@pytest.fixture
def actor(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Actor]:
    """Puts the actor in every policy's place."""
    one = Actor(renderer)
    batches = StaticBatching(lambda rows, stops: one.sample(rows), 64)
    monkeypatch.setattr(TransformersPolicy, "worker", lambda self: batches)
    return one


def _tasks(count: int, *, blind: bool = False) -> dict[str, Task]:
    rng = random.Random(0)

    def picture() -> Image.Image:
        size = rng.choice(((56, 56), (84, 56), (112, 84)))
        return Image.effect_noise(size, 80).convert("RGB")

    made = {}
    for n in range(count):
        images = () if blind and n % 2 else (partial(Image.Image.copy, picture()),)
        made[f"t{n}"] = Task(id=f"t{n}", question="What is this?", images=images, golds=("x",), knowledge="unknown")
    return made


async def _score(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
    if trajectory.failed_tools():
        return None
    return {"total": float(trajectory.correct) - 0.1 * sum(trajectory.calls().values())}


def _trainer(
    processor: PictureProcessor, size: PocketSize, folder: Path, tasks: dict[str, Task], *,
    tools: dict[str, Any] | None = None, options: dict[str, Any] | None = None, config: dict[str, Any] | None = None,
    network: Any = None,
) -> GraphGRPOTrainer:  # fmt: skip
    network = network if network is not None else pocket.build_network(processor, size)
    setup = RolloutSetup(
        graph="search_agent",
        config=load_config(),
        policy=TransformersPolicy(model="none"),
        dialect=build("compact"),
        reward=_score,
        tools=tools or {"text_search": FixedText(), "image_search": FixedImage(), "locate": FixedLocator()},
    )
    fields: dict[str, Any] = {
        "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 2, "learning_rate": 1e-3,
        "max_completion_length": 24, "temperature": 1.0, **(config or {}),
    }  # fmt: skip
    return GraphGRPOTrainer(
        model=network,
        args=GRPOConfig(
            output_dir=str(folder), use_cpu=True, bf16=False, **checkpointing.argument(False), report_to=[],
            logging_steps=1, save_strategy="no", disable_tqdm=True, **fields,
        ),
        train_dataset=_data(tasks),
        eval_dataset=_data(tasks) if "eval_strategy" in fields else None,
        processing_class=processor,
        rollouts=GraphRollouts(tasks=tasks, setup=setup, concurrent=8, **(options or {})),
    )  # fmt: skip


def _data(tasks: dict[str, Task]) -> Dataset:
    return Dataset.from_list([{"prompt": [{"role": "user", "content": name}]} for name in tasks])


@pytest.fixture
def size(tiny_size: dict[str, int]) -> PocketSize:
    """The tiny network."""
    return PocketSize(**tiny_size)


def _batch(trainer: GraphGRPOTrainer, tasks: dict[str, Task]) -> dict[str, Any]:
    rows = [{"prompt": [{"role": "user", "content": name}]} for name in tasks for _ in range(4)]
    return trainer._generate_and_score_completions(rows)


def _logprobs(trainer: GraphGRPOTrainer, batch: dict[str, Any], chunk: int) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    vision = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images") if k in batch}
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, batch_size=chunk, **vision)[
            0
        ]


def test_no_sampled_id_is_ever_encoded_again(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks = _tasks(4, blind=True)
    trainer = _trainer(processor, size, tmp_path, tasks)
    _batch(trainer, tasks)
    trained = []
    for rollout in trainer.made:
        for step in rollout.trajectory.decisions:
            assert step.tokens is not None
            trained.append(list(rollout.rendered.ids[slice(*step.tokens)]))
        sampled = [i for i, m in zip(rollout.rendered.ids, rollout.rendered.mask, strict=True) if m]
        assert sampled == [
            i for step in rollout.trajectory.decisions for i in rollout.rendered.ids[slice(*step.tokens)]
        ]
    assert sorted(trained) == sorted(actor.said)
    assert len(trained) > 16


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_trainer_logprobs_equal_an_unpadded_forward_of_each_trajectory(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor, chunk: int
) -> None:
    """Also in chunks in which no row, or only some rows, have pictures."""
    tasks = _tasks(4, blind=True)
    trainer = _trainer(processor, size, tmp_path, tasks)
    batch = _batch(trainer, tasks)
    found = _logprobs(trainer, batch, chunk)
    network = trainer.model.eval()
    assert {bool(rollout.rendered.pixels) for rollout in trainer.made} == {True, False}
    for row, rollout in enumerate(trainer.made):
        ids = torch.tensor([rollout.rendered.ids])
        inputs: dict[str, Any] = {"input_ids": ids}
        if rollout.rendered.pixels:
            inputs["pixel_values"] = torch.cat([torch.from_numpy(p.values) for p in rollout.rendered.pixels])
            inputs["image_grid_thw"] = torch.tensor([p.grid for p in rollout.rendered.pixels])
            inputs["mm_token_type_ids"] = (ids == trainer.renderer.image_pad).int()
        with torch.no_grad():
            logits = network(**inputs).logits[0, :-1].log_softmax(-1)
        whole = logits.gather(1, ids[0, 1:, None])[:, 0]
        border = rollout.rendered.mask.index(1)
        wanted = whole[border - 1 :]
        mask = torch.tensor(rollout.rendered.mask[border:]).bool()
        assert torch.allclose(found[row, : len(wanted)][mask], wanted[mask], atol=1e-5)


def test_pictures_are_those_of_the_rollout_and_the_policy_sees_them(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """The blind test: without its pixels, every row with a picture has other log-probabilities."""
    tasks = _tasks(4, blind=True)
    trainer = _trainer(processor, size, tmp_path, tasks)
    batch = _batch(trainer, tasks)
    pictures = [picture for rollout in trainer.made for picture in rollout.rendered.pixels]
    assert torch.equal(batch["pixel_values"], torch.cat([torch.from_numpy(p.values) for p in pictures]))
    assert batch["image_grid_thw"].tolist() == [list(p.grid) for p in pictures]
    assert batch["num_images"] == [len(rollout.rendered.pixels) for rollout in trainer.made]
    seen = _logprobs(trainer, batch, 4)
    blind = _logprobs(trainer, {**batch, "pixel_values": torch.zeros_like(batch["pixel_values"])}, 4)
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    for row, count in enumerate(batch["num_images"]):
        changed = bool((seen[row] - blind[row]).abs()[mask[row]].max() > 1e-7)
        assert changed == (count > 0)


@pytest.mark.parametrize(
    "config",
    [{}, {"num_iterations": 2}, {"beta": 0.1}, {"loss_type": "dr_grpo", "scale_rewards": "none"}],
    ids=["plain", "iterations", "reference", "dr_grpo"],
)
def test_it_trains(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor, config: dict[str, Any]
) -> None:
    tasks = _tasks(3, blind=True)
    pocket.save(pocket.build_network(processor, size), processor, tmp_path / "base")
    # the reference is loaded from where the network says that it came from
    network = pocket.load_network(tmp_path / "base")
    trainer = _trainer(processor, size, tmp_path / "run", tasks, config=config, network=network)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    moved = [name for name, tensor in trainer.model.state_dict().items() if not torch.equal(before[name], tensor)]
    assert any("visual" in name for name in moved)
    assert any("language_model" in name for name in moved)
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert {"accuracy", "searches", "malformed_turns", "seconds/rollout"} <= set(logged[0])
    for row in logged:
        # each is a part of the rollout; they overlap
        assert 0 < row["seconds/policy"] <= row["seconds/rollout"]
        assert 0 < row["seconds/tools"] <= row["seconds/rollout"]
        keys = [key for key in row if key.startswith("decisions/") and key.endswith("/token_share")]
        by_turn = [key for key in keys if "/turn_" in key]
        assert any(key.startswith("decisions/reason/turn_2/") for key in by_turn)
        for named in (by_turn, sorted(set(keys) - set(by_turn))):
            assert sum(row[key] for key in named) == pytest.approx(1)


@pytest.mark.parametrize("credit", ["trajectory", "decision"])
@pytest.mark.parametrize("idle", [0, 5, 11, 16])
def test_rows_without_an_advantage_are_left_out_and_change_nothing(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor, idle: int, credit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tasks = _tasks(4, blind=True)
    trainer = _trainer(processor, size, tmp_path, tasks, options={"credit": credit})
    batch = _batch(trainer, tasks)
    batch["advantages"] = torch.randn(batch["advantages"].shape, generator=torch.Generator().manual_seed(0))
    batch["advantages"][torch.randperm(16, generator=torch.Generator().manual_seed(1))[:idle]] = 0.0
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        trainer.model.zero_grad()
        loss.backward()
        return torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.grad is not None])

    fewer = worth_a_pass(batch)
    assert len(fewer["prompt_ids"]) == max(1, 16 - idle)
    assert len(fewer["pixel_values"]) == sum(int(grid.prod()) for grid in fewer["image_grid_thw"])
    whole = GRPOTrainer._compute_loss(trainer, trainer.model, batch)
    expected = gradient(whole)
    found = trainer._compute_loss(trainer.model, batch)
    assert found.item() == pytest.approx(whole.item(), abs=1e-6)
    assert torch.allclose(gradient(found), expected, atol=1e-6)
    # another process has 8 rows with an advantage: this one keeps as many, because TRL gathers a value a row
    kept: list[int] = []
    stock = GRPOTrainer._compute_loss

    def noted(self: GRPOTrainer, model: Any, inputs: dict[str, Any]) -> Any:
        kept.append(len(inputs["prompt_ids"]))
        return stock(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", noted)
    monkeypatch.setattr(graph_trainer, "gather_object", lambda own: [*own, 8])
    padded = trainer._compute_loss(trainer.model, batch)
    assert kept == [max(8, 16 - idle)]
    assert padded.item() == pytest.approx(whole.item(), abs=1e-6)
    assert torch.allclose(gradient(padded), expected, atol=1e-6)


def test_small_advantages_count_and_rounding_does_not(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """A price of a tenth of a cent, unscaled, moves few rows a little; equal rewards move none."""
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks, config={"scale_rewards": "none"})
    calls = iter(range(1000))

    async def nearly_equal(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        return {"total": 0.91 - (0.0018 if next(calls) == 0 else 0.0)}

    trainer.rollouts.setup = replace(trainer.rollouts.setup, reward=nearly_equal)
    batch = _batch(trainer, tasks)
    moved = batch["advantages"] != 0
    assert sorted([int(moved[:4].sum()), int(moved[4:].sum())]) == [0, 4]
    assert len(worth_a_pass(batch)["prompt_ids"]) == 4


def test_a_failed_run_is_recorded_and_masked_and_its_group_goes_on(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks)
    calls = iter(range(1000))

    async def breaks(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        if next(calls) == 2:
            raise RuntimeError("the reward broke")
        return await _score(trajectory, task)

    trainer.rollouts.setup = replace(trainer.rollouts.setup, reward=breaks)
    batch = _batch(trainer, tasks)
    failed = [row for row, rollout in enumerate(trainer.made) if rollout.trajectory.error]
    assert len(failed) == 1
    broken = trainer.made[failed[0]].trajectory
    assert broken.error == "RuntimeError: the reward broke"
    # what happened until then is on record
    assert len(broken.decisions) > 0
    assert len(broken.messages) > 1
    assert sum(broken.mask) > 0
    assert broken.reward is None
    mask = batch["completion_mask"] * batch["tool_mask"]
    assert mask[failed[0]].sum() == 0
    assert batch["advantages"][failed[0]] == 0
    assert all(mask[row].sum() > 0 for row in range(8) if row not in failed)


def test_a_failed_tool_is_not_the_policys_fault(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """Its episode counts in no normaliser: the tokens of the loss are those of the others."""
    tasks = _tasks(2)
    tools = {"text_search": FixedText(hits=[]), "image_search": FixedImage(hits=[]), "locate": FixedLocator()}
    trainer = _trainer(processor, size, tmp_path, tasks, tools=tools, options={"max_failed_share": 1.0})
    batch = _batch(trainer, tasks)
    mask = batch["completion_mask"] * batch["tool_mask"]
    kept = 0
    for row, rollout in enumerate(trainer.made):
        if rollout.trajectory.failed_tools():
            assert rollout.trajectory.reward is None
            assert batch["advantages"][row] == 0
            assert mask[row].sum() == 0
        else:
            kept += sum(rollout.rendered.mask)
    assert any(rollout.trajectory.failed_tools() for rollout in trainer.made)
    assert int(batch["num_items_in_batch"]) == int(mask.sum()) == kept > 0
    logged = trainer._metrics["train"]
    assert logged["failures"] == [sum(one.trajectory.failed_tools() for one in trainer.made) / 8]
    assert logged["failures/image_search/unavailable"][0] > 0

    trainer.rollouts.max_failed_share = 0.2
    with pytest.raises(
        TooManyFailed, match=r"of 8 episodes failed: .*image_search/unavailable x\d+ \(the image search is down"
    ):
        _batch(trainer, tasks)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_an_episode_without_a_reward_leaves_no_trace_in_the_update(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor, loss_type: str
) -> None:
    """Loss and gradient, the divergence from the reference included, are those of a batch without it."""
    tasks = _tasks(4, blind=True)
    pocket.save(pocket.build_network(processor, size), processor, tmp_path / "base")
    network = pocket.load_network(tmp_path / "base")
    config = {"beta": 0.1, "loss_type": loss_type}
    trainer = _trainer(processor, size, tmp_path / "run", tasks, config=config, network=network)

    async def no_verdict(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        number = int(trajectory.id.partition("#")[2].partition("@")[0])
        return None if number == 1 else {"total": float(number)}

    trainer.rollouts.setup = replace(trainer.rollouts.setup, reward=no_verdict)
    batch = _batch(trainer, tasks)
    trainer.current_gradient_accumulation_steps = 1
    with torch.no_grad():  # away from the reference, so that there is a divergence
        for weight in trainer.model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    rewarded = [rollout.trajectory.reward is not None for rollout in trainer.made]
    assert sum(rewarded) == 12
    noise = torch.rand(16, generator=torch.Generator().manual_seed(1)) + 0.5
    batch["advantages"] = noise * torch.tensor(rewarded)
    without = worth_a_pass(batch)
    assert len(without["prompt_ids"]) == 12

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        trainer.model.zero_grad()
        loss.backward()
        return torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.grad is not None])

    trainer.model.train()
    stock = GRPOTrainer._compute_loss(trainer, trainer.model, without)
    expected = gradient(stock)
    found = trainer._compute_loss(trainer.model, batch)
    assert found.item() == pytest.approx(stock.item(), rel=1e-4)
    assert torch.allclose(gradient(found), expected, atol=1e-6, rtol=1e-3)


def test_a_length_budget_ends_the_episode_behind_a_whole_turn(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """Turns beyond the row's length were never said: they earn nothing, and their searches are not charged."""
    tasks = _tasks(4)
    trainer = _trainer(processor, size, tmp_path, tasks)

    async def paid(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        return {"total": 1.0 if trajectory.answer is not None else 0.0, "match": float(trajectory.correct)}

    trainer.rollouts.setup = replace(trainer.rollouts.setup, max_tokens=150, reward=paid)
    _batch(trainer, tasks)
    assert max(len(rollout.rendered.ids) for rollout in trainer.made) <= 150
    cut = 0
    for rollout in trainer.made:
        check_pictures(rollout.rendered, trainer.renderer)
        one = rollout.trajectory
        assert one.ids == tuple(rollout.rendered.ids)
        assert all(step.tokens is not None for step in one.decisions)
        assert sum(said.role == "assistant" for said in one.messages) == len(one.decisions)
        assert one.reward is not None
        if one.stop_reason != "token_limit":
            assert one.reward["total"] == (one.answer is not None)
            continue
        cut += 1
        assert (one.answer, one.correct, one.well_formed, one.reward["total"]) == (None, False, False, 0.0)
        assert all(step.kind != "answer" for step in one.decisions)
        assert one.steps[-1].edge is None
        assert not one.messages or one.messages[-1].role == "assistant" or not one.decisions
        assert sum(one.calls().values()) <= len(one.decisions)
    assert 0 < cut < 16


def test_a_budget_that_nothing_reaches_changes_nothing(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks = _tasks(3)
    trainer = _trainer(processor, size, tmp_path, tasks)
    made = []
    for budget in (None, 4096):
        actor.rng = random.Random(7)
        trainer.rollouts.concurrent = 1
        trainer.rollouts.setup = replace(trainer.rollouts.setup, max_tokens=budget)
        _batch(trainer, tasks)
        made.append([(r.trajectory.ids, r.trajectory.stop_reason, r.trajectory.reward) for r in trainer.made])
    assert made[0] == made[1]


def test_only_chosen_nodes_are_trained(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks, options={"train_nodes": ("reason",)})
    batch = _batch(trainer, tasks)
    sampled = sum(sum(rollout.rendered.mask) for rollout in trainer.made)
    assert int((batch["tool_mask"] * batch["completion_mask"]).sum()) == int(batch["num_items_in_batch"]) == sampled
    trainer.rollouts.train_nodes = ("elsewhere",)
    batch = _batch(trainer, tasks)
    assert int((batch["tool_mask"] * batch["completion_mask"]).sum()) == 0
    assert int(batch["num_items_in_batch"]) == 0


@pytest.mark.parametrize("node", ["crop", "answer", "qery"])
def test_a_node_in_which_the_policy_decides_nothing_cannot_be_trained(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, node: str
) -> None:
    with pytest.raises(ValueError, match=f"decides nothing in {node}; it decides in reason"):
        _trainer(processor, size, tmp_path, _tasks(2), options={"train_nodes": (node,)})


def test_credit_by_decision_compares_choices_at_the_same_step() -> None:
    group = {
        0: [("answer", 1.0)],
        1: [("image_search", 0.8), ("answer", 0.8)],
        2: [("image_search", 0.0), ("text_search", 0.0), ("answer", 0.0)],
        3: [("image_search", None)],
    }
    found = decision_advantages(group)
    assert found[0, 0] > 0 > found[1, 0] == found[2, 0]
    assert found[1, 1] > 0 > found[2, 1]
    assert found[2, 2] == 0
    assert found[3, 0] == 0
    unscaled = decision_advantages(group, 1.0)
    assert unscaled[0, 0] == pytest.approx(1.0 - (1.0 + 0.8 + 0.0) / 3, abs=1e-3)


@pytest.mark.parametrize(("scale", "expected"), [("group", None), ("none", 1.0)])
def test_credit_by_decision_is_scaled_as_the_rewards_are(scale: str, expected: float | None) -> None:
    assert credit.scale_of(scale, []) == expected


def test_the_scale_of_a_batch_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [[Decision("reason", 1, "answer", 0, 2, reward)] for reward in (0.5, 0.5, None)]
    monkeypatch.setattr(credit, "gather_object", lambda own: [*own, 0.0, 1.0])
    assert credit.scale_of("batch", here) == pytest.approx(float(torch.tensor([0.5, 0.5, 0.0, 1.0]).std()))


def test_decisions_are_counted_by_node_and_turn() -> None:
    found = [
        [Decision("reason", 1, "image_search", 0, 2, 1.0), Decision("reason", 2, "answer", 3, 4, 1.0)],
        [Decision("reason", 1, "answer", 0, 1, 0.0)],
        [Decision("judge", 40, "answer", 0, 0, 0.0)],
    ]
    output = {
        "completion_mask": torch.ones(3, 4), "tool_mask": torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]),
        "advantages": torch.tensor([1.0, -0.5, 0.25]),
    }  # fmt: skip
    made = training_metrics.of_decisions(training_metrics.decisions(found, output))
    assert made["decisions/reason/turn_1/answer/share"] == made["decisions/reason/turn_1/image_search/share"] == 0.5
    assert made["decisions/reason/turn_1/answer/advantage"] == -0.5
    assert made["decisions/reason/turn_2/answer/share"] == 1
    assert made["decisions/reason/answer/share"] == pytest.approx(2 / 3)
    assert made["decisions/reason/answer/advantage"] == 0.25
    assert made["decisions/reason/turn_1/image_search/token_share"] == 0.5
    assert made["decisions/reason/answer/token_share"] == 0.5
    # |advantage| x tokens: 1 x 2 and 1 x 1 in the first row, 0.5 x 1 in the second
    assert made["decisions/reason/turn_1/image_search/loss_share"] == pytest.approx(2 / 3.5)
    assert made["decisions/reason/answer/loss_share"] == pytest.approx(1.5 / 3.5)
    # a mean of every row's own mean: 2/3, 1/3 and 0.5
    by_row = training_metrics.of_decisions(training_metrics.decisions(found, output, by_row=True))
    assert by_row["decisions/reason/turn_1/image_search/loss_share"] == pytest.approx(2 / 3 / 1.5)
    nothing = training_metrics.decisions(found, {**output, "advantages": torch.zeros(3)})
    assert training_metrics.of_decisions(nothing)["decisions/reason/answer/loss_share"] == 0
    assert made["decisions/judge/answer/share"] == 1  # another decision point
    assert "decisions/judge/turn_16/answer/share" in made  # late turns share a key


def test_a_process_with_part_of_a_group_is_refused(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of 6 rows are 12 rows, 3 groups of 4: the second group would lie across them."""
    monkeypatch.setattr(GRPOConfig, "world_size", 2)
    with pytest.raises(ValueError, match="splits groups of num_generations=4"):
        _trainer(processor, size, tmp_path, _tasks(3), config={"per_device_train_batch_size": 6})


def test_several_batches_of_rollouts_may_serve_one_step(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    config = {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "max_steps": 1}
    trainer = _trainer(processor, size, tmp_path, _tasks(2), config=config)
    trainer.train()
    trainer._save_checkpoint(trainer.model, None)
    assert not list((tmp_path / "checkpoint-1").glob("rollouts-*"))  # it stands between two batches
    sampler = RepeatSampler(range(6), 1, batch_size=2, seed=0)
    assert resuming.wind(sampler, 2 * 3, 1) == 2  # 3 steps of 2 batches, 3 batches an epoch


def test_a_batch_is_not_resumed_where_a_process_lacks_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, layout = torch.device("cpu", 0), {"steps_per_generation": 2, "num_processes": 1}
    assert resuming.kept_batches(tmp_path, 0, cpu, layout) is None
    resuming.keep_batches(tmp_path, 0, [{"advantages": torch.ones(2), "num_images": [1, 0]}], layout)
    (kept,) = resuming.kept_batches(tmp_path, 0, cpu, layout) or []
    assert kept["advantages"].tolist() == [1, 1]
    assert kept["num_images"] == [1, 0]
    with pytest.raises(ValueError, match="num_processes=1, not 2"):
        resuming.kept_batches(tmp_path, 0, cpu, {**layout, "num_processes": 2})
    # the process without a file refuses as well, and does not wait for the others
    monkeypatch.setattr(resuming, "gather_object", lambda own: [(True, ""), *own])
    with pytest.raises(ValueError, match="no rollouts-1.pt"):
        resuming.kept_batches(tmp_path, 1, cpu, layout)


def test_an_interrupt_ends_the_rollouts() -> None:
    ended: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with interrupts ignored

    async def long() -> None:
        asyncio.get_running_loop().call_later(
            0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        )
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    started = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            in_own_loop(long())
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["cancelled"]
    assert time.perf_counter() - started < 5


def test_credit_by_decision_reaches_the_loss(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks, options={"credit": "decision"})
    batch = _batch(trainer, tasks)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    trainer.train()


class Engine:
    """Stands at TRL's own single-turn generator, as vLLM does: notes what it is asked, and answers with random turns.

    What it gives back has the shape of `GRPOTrainer._generate_single_turn` with `use_vllm`: the sampled ids of every
    prompt, and one log-probability a token (TRL itself drops the other top-k ones).
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.asked: list[tuple[list[int], list[Any] | None]] = []
        self.calls: list[tuple[Any, ...]] = []

    def __call__(
        self, ids: list[list[int]], images: list[Any] | None, fields: dict[str, Any], count: int, **rest: Any
    ) -> tuple[list[list[int]], list[list[float]]]:
        self.calls.append((fields, count, rest))
        self.asked += list(zip(ids, images or [None] * len(ids), strict=True))
        tail = [Rendered(row, [int(token == self.actor.renderer.eos) for token in row], []) for row in ids]
        said = [self.actor.turn(row) for row in tail]
        self.actor.said += said
        return said, [[-0.25] * len(turn) for turn in said]


@pytest.fixture
def engine(renderer: Renderer) -> Engine:
    """An engine with an actor of its own."""
    return Engine(Actor(renderer))


def test_with_vllm_every_turn_goes_through_trls_own_generator(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the boundary: prompts as ids, pictures as pictures, one sample each; its ids and log-probabilities are trained."""
    tasks = _tasks(4, blind=True)
    trainer = _trainer(processor, size, tmp_path, tasks)
    trainer.use_vllm = True
    trainer.renderer = Renderer(processor, keep_pictures=True)
    monkeypatch.setattr(trainer, "_generate_single_turn", engine)
    rows = [[{"role": "user", "content": name}] for name in tasks for _ in range(4)]
    prompts, completions, masks, _, logprobs, _, _, pictures = trainer._generate(rows)
    assert all(fields == {} and count == 1 for fields, count, _ in engine.calls)
    turns = {tuple(ids): images for ids, images in engine.asked}
    for n, rollout in enumerate(trainer.made):
        assert rollout.trajectory.error is None
        seen = 0
        for (
            step
        ) in rollout.trajectory.decisions:  # what the engine was asked is what is trained on, and all its pictures
            assert step.tokens is not None
            before = tuple(rollout.rendered.ids[: step.tokens[0]])
            seen = sum(token == trainer.renderer.image_pad for token in before)
            images = turns[before]
            assert bool(images) == bool(seen)
            assert all(isinstance(image, Image.Image) for image in images or [])
        assert logprobs is not None
        assert [score for score, m in zip(logprobs[n], masks[n], strict=True) if m] == [-0.25] * sum(masks[n])
        assert len(prompts[n]) + len(completions[n]) == len(rollout.rendered.ids)
        assert len(pictures[n]) == len(rollout.rendered.pixels)
    assert {bool(images) for _, images in engine.asked} == {True, False}
    sampled = sorted(
        list(r.rendered.ids[slice(*s.tokens)]) for r in trainer.made for s in r.trajectory.decisions if s.tokens
    )
    assert sampled == sorted(engine.actor.said)


def test_an_episode_whose_ids_do_not_add_up_is_masked_and_counted(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp told 10 ids of a turn of 11; the rest of such a row would be trained with the wrong log-probabilities."""
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks)
    trainer.use_vllm = True
    trainer.renderer = Renderer(processor, keep_pictures=True)

    def short(ids: list[list[int]], images: Any, fields: dict[str, Any], count: int, **rest: Any) -> Any:
        said, scores = engine(ids, images, fields, count, **rest)
        return said, [scores[0][:-1], *scores[1:]]  # one turn of each batch lacks the last log-probability

    monkeypatch.setattr(trainer, "_generate_single_turn", short)
    _, completions, masks, _, logprobs, _, _, _ = trainer._generate([[{"role": "user", "content": "t0"}]] * 4)
    lost = [n for n, rollout in enumerate(trainer.made) if not rollout.trajectory.ids]
    assert 0 < len(lost) < 4
    assert all(rollout.trajectory.error is None for rollout in trainer.made)
    for n in range(4):
        assert any(masks[n]) == (n not in lost)
        assert logprobs is not None
        assert len(logprobs[n]) == len(completions[n])
    assert trainer._metrics["train"]["without_ids"] == [len(lost) / 4]


def test_a_batch_without_pictures_is_asked_without_any(renderer: Renderer) -> None:
    asked: list[Any] = []

    def engine(ids: list[list[int]], pixels: list[list[Pixels]]) -> tuple[list[list[int]], list[list[float]]]:
        asked.append((ids, pixels))
        return [[5, renderer.eos]], [[-0.5, -0.25]]

    policy = EnginePolicy(model="in training", engine=engine).attach(None, renderer)  # type: ignore[arg-type]
    assert policy.sample([Rendered([1, 2], [0, 0], [])]) == [Sampled([5, renderer.eos], [-0.5, -0.25])]
    assert asked == [([[1, 2]], [[]])]


def test_a_failed_engine_is_told(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = _tasks(2)
    trainer = _trainer(processor, size, tmp_path, tasks)
    trainer.use_vllm = True

    def down(*args: Any, **rest: Any) -> Any:
        raise ConnectionError("no server at port 8000")

    monkeypatch.setattr(trainer, "_generate_single_turn", down)
    with pytest.raises(TooManyFailed, match="4 of 4 episodes failed: run x4 .*no server at port 8000"):
        trainer._generate([[{"role": "user", "content": "t0"}]] * 4)


def test_evaluation_measures_and_changes_nothing(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """Neither the weights, nor the store, nor what listens to training steps, nor the place in a batch of rollouts."""
    tasks, store, heard = _tasks(3), TrajectoryStore(tmp_path / "kept"), []
    options = {"store": store, "credit": "decision", "on_step": lambda made, step: heard.append(step)}
    config = {"per_device_eval_batch_size": 6, "num_generations_eval": 2}
    trainer = _trainer(processor, size, tmp_path / "run", tasks, options=options, config=config)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    figures = trainer.evaluate(trainer.train_dataset)
    assert {"eval_loss", "eval_accuracy", "eval_searches", "eval_malformed_turns", "eval_seconds/rollout"} <= set(
        figures
    )
    assert len(trainer.made) == 6
    made = [rollout.trajectory for rollout in trainer.made]
    assert figures["eval_accuracy"] == pytest.approx(sum(one.correct for one in made) / 6)
    assert figures["eval_searches"] == pytest.approx(sum(sum(one.calls().values()) for one in made) / 6)
    assert not (tmp_path / "kept").exists()
    assert heard == []
    assert trainer._step == 0
    assert trainer._buffered_inputs is None
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_a_run_that_evaluates_between_its_steps_trains_on(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    tasks, store = _tasks(2), TrajectoryStore(tmp_path / "kept")
    config = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4, "num_iterations": 2}
    trainer = _trainer(processor, size, tmp_path / "run", tasks, options={"store": store}, config=config)
    trainer.train()
    logged = trainer.state.log_history
    assert [row["step"] for row in logged if "eval_reward" in row] == [1, 2]
    steps = [row for row in logged if "reward" in row or "seconds/update" in row]
    assert [row["step"] for row in steps] == [1, 2]
    assert "seconds/rollout" in steps[0]
    assert "seconds/rollout" not in steps[1]  # the second pass over the same rollouts
    assert len(list(store)) == 4
    for row in steps:
        assert 0 < row["seconds/update"] <= row["step_time"] + 0.01
    assert steps[0]["seconds/update"] < steps[0]["step_time"] - 0.9 * steps[0]["seconds/rollout"]


@pytest.mark.parametrize(
    ("plugins", "says"),
    [
        ({"fsdp_plugin": object()}, "FSDP splits the weights"),
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=3)}, "DeepSpeed ZeRO-3 splits the weights"),
    ],
)
def test_split_weights_are_refused_at_the_start(plugins: dict[str, Any], says: str) -> None:
    """At the boundary: what an accelerator says of itself. Neither FSDP nor DeepSpeed runs here."""
    with pytest.raises(ValueError, match=says) as refused:
        sharded.refuse(SimpleNamespace(state=SimpleNamespace(**plugins)))
    assert "accelerate launch --multi_gpu" in str(refused.value)
    sharded.refuse(SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=2))))
    sharded.refuse(Accelerator(cpu=True))


def test_the_trainer_refuses_split_weights(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "refuse", Mock(side_effect=ValueError("split")))
    with pytest.raises(ValueError, match="split"):
        _trainer(processor, size, tmp_path, _tasks(2))


def test_trajectories_are_kept(processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor) -> None:
    tasks, store = _tasks(2), TrajectoryStore(tmp_path / "kept")
    trainer = _trainer(processor, size, tmp_path / "run", tasks, options={"store": store})
    trainer.train()
    kept = list(store)
    assert len(kept) == 8
    assert all(store.picture(picture.id) for trajectory in kept for picture in trajectory.pictures)
    assert all(len(trajectory.ids) == len(trajectory.mask) for trajectory in kept)


def test_a_trajectory_is_on_the_disk_as_soon_as_it_is_finished(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """A kill in the middle of a step loses the episodes that are under way, not the finished ones."""
    tasks, store = _tasks(2), TrajectoryStore(tmp_path / "kept")
    trainer = _trainer(processor, size, tmp_path / "run", tasks, options={"store": store})
    trainer.rollouts.concurrent = 1
    there: list[int] = []

    async def late(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        there.append(len(list(store)) if store.path.is_file() else 0)
        return {"total": 0.0}

    trainer.rollouts.setup = replace(trainer.rollouts.setup, reward=late)
    trainer.model.train()
    _batch(trainer, tasks)
    assert there == list(range(8))
    assert len(list(store)) == 8


def test_parts_of_the_reward_are_logged_as_they_were_given(
    processor: PictureProcessor, size: PocketSize, tmp_path: Path, actor: Actor
) -> None:
    """`reward/match` is what the run's rule took for right, whatever `accuracy` says; unrewarded episodes are no zeros."""
    tasks = _tasks(1)
    trainer = _trainer(processor, size, tmp_path, tasks)

    async def judged(trajectory: Trajectory, task: Task) -> dict[str, float] | None:
        number = int(trajectory.id.partition("#")[2].partition("@")[0])
        return None if number == 3 else {"total": 0.5, "match": 1.0, "format": 0.0, "searches": number, "cost": 0.25}

    trainer.rollouts.setup = replace(trainer.rollouts.setup, reward=judged)
    trainer.model.train()
    _batch(trainer, tasks)
    metrics = trainer._metrics["train"]
    found = {part: metrics[f"reward/{part}"] for part in training_metrics.PARTS}
    assert found == {"match": [1.0], "format": [0.0], "searches": [1.0], "cost": [0.25]}
    none = training_metrics.of_episodes({"episodes": 4.0, "turns": 4.0})
    assert not any(name.startswith("reward/") for name in none)


def test_waiting_together_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of the policy and of the tools are those of the wall; a model that a tool asks is the tool's."""
    now = [0.0]
    monkeypatch.setattr(wait_clock.time, "perf_counter", lambda: now[0])
    clock, turns, tool, summary = WaitClock(), [uuid4() for _ in range(3)], uuid4(), uuid4()
    for turn in turns:
        clock.on_chat_model_start(run_id=turn, parent_run_id=uuid4())
    clock.on_tool_start(run_id=tool)
    now[0] = 1.0
    for turn in turns:
        clock.on_llm_end(run_id=turn)
    clock.on_chat_model_start(run_id=summary, parent_run_id=tool)  # cut off with its tool: it never ends
    now[0] = 3.0
    clock.on_tool_error(run_id=tool)
    now[0] = 4.0
    clock.on_chat_model_start(run_id=turns[0])
    now[0] = 4.5
    clock.on_llm_error(run_id=turns[0])
    assert clock.seconds == {"policy": 1.5, "tools": 3.0}


def test_pictures_that_do_not_fit_their_placeholders_are_refused(renderer: Renderer) -> None:
    import numpy as np

    picture = Pixels("p", np.zeros((4, 588), dtype=np.float32), (1, 2, 2))
    check_pictures(Rendered([renderer.image_pad], [0], [picture]), renderer)
    with pytest.raises(ValueError, match="2 placeholders for 1 visual tokens"):
        check_pictures(Rendered([renderer.image_pad] * 2, [0, 0], [picture]), renderer)


def test_the_processor_is_itself_again_afterwards(processor: PictureProcessor) -> None:
    stock = processor.image_processor
    with pixels_as_pictures(processor):
        plain = processor.image_processor(images=[Image.new("RGB", (56, 56))], return_tensors="pt")
        assert plain["image_grid_thw"].tolist() == [[1, 4, 4]]
    assert processor.image_processor is stock


def test_the_internals_of_trl_that_are_replaced_are_as_they_were() -> None:
    """TRL is pinned; when the pin moves, this says what to look at."""

    def names(method: Any) -> list[str]:
        return list(inspect.signature(method).parameters)

    assert names(GRPOTrainer._generate) == ["self", "prompts"]
    assert names(GRPOTrainer._generate_single_turn) == [
        "self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images",
    ]  # fmt: skip
    assert names(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    assert names(GRPOTrainer._get_per_token_logps_and_entropies) == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
        "compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes",
        "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
    ]  # fmt: skip
    assert names(GRPOTrainer._compute_loss) == ["self", "model", "inputs"]
    assert names(GRPOTrainer.training_step) == ["self", "model", "inputs", "num_items_in_batch"]
    assert names(GRPOTrainer._save_checkpoint) == ["self", "model", "trial"]
    assert names(GRPOTrainer._get_train_sampler) == ["self", "dataset"]
    assert names(GRPOTrainer.train)[:2] == ["self", "resume_from_checkpoint"]
    buffer = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "if self._step % generate_every == 0 or self._buffered_inputs is None:" in buffer
    assert "inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]" in buffer
    order = inspect.getsource(RepeatSampler.__iter__)
    assert "torch.randperm(self.num_samples, generator=self.generator)" in order
    source = inspect.getsource(GRPOTrainer._generate)
    assert (
        "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
        in source
    )
