"""A sampler in another process samples what one in this process would, from the weights as they are now."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from langchain_core.messages import HumanMessage
from PIL import Image
from trl import GRPOConfig

import lensgraph
from lensgraph.agent.config import load_config
from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.testing import FixedImage, FixedLocator, FixedText
from lensgraph.rl.grpo.build_trainer import sampled_in
from lensgraph.rl.grpo.generation import GraphRollouts
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.network import checkpointing
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import Trajectory
from lensgraph.rl.sampler import process as sampler_process
from lensgraph.rl.sampler import shared_weights, worker
from lensgraph.rl.sampler.process import ProcessPolicy, SamplerProcess
from lensgraph.rl.sampler.shared_weights import MEMORY, SharedWeights
from lensgraph.rl.tasks import Task


@pytest.fixture(scope="module")
def network(processor: PictureProcessor, tiny_size: dict[str, int]) -> Any:
    """One untrained network for all tests here; each leaves other weights behind."""
    torch.manual_seed(0)
    return pocket.build_network(processor, PocketSize(**tiny_size)).eval()


@pytest.fixture(scope="module")
def process(network: Any, processor: PictureProcessor) -> Iterator[SamplerProcess]:
    """One process for all tests that do not kill it."""
    one = SamplerProcess(network, processor)
    yield one
    one.close()


def _policy(network: Any, processor: PictureProcessor, **options: Any) -> ProcessPolicy:
    policy = ProcessPolicy(model="tiny", max_new_tokens=12, **options)
    policy.attach(network, Renderer(processor))
    return policy


def _dialogues(renderer: Renderer) -> list[Rendered]:
    pictures = [Image.effect_noise(size, 90).convert("RGB") for size in ((56, 56), (112, 84))]
    texts = ["What is it?", "And the capital?", "In which year?"]
    blocks: list[list[dict[str, Any]]] = [
        [{"type": "image", "image": pictures[0]}, {"type": "text", "text": texts[0]}],
        [{"type": "image", "image": picture} for picture in pictures] + [{"type": "text", "text": texts[1]}],
        [{"type": "text", "text": texts[2]}],
    ]
    return [renderer.render([HumanMessage(content)]) for content in blocks]


def _here(network: Any, processor: PictureProcessor, rows: list[Rendered]) -> list[Sampled]:
    policy = TransformersPolicy(model="tiny", max_new_tokens=12).attach(network, Renderer(processor))
    return [policy.sample([row])[0] for row in rows]


def _equal(there: list[Sampled], here: list[Sampled]) -> None:
    assert [one.ids for one in there] == [one.ids for one in here]
    for one, other in zip(there, here, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_turns_and_log_probabilities_are_those_of_this_process(
    network: Any, processor: PictureProcessor, process: SamplerProcess
) -> None:
    policy = _policy(network, processor).through(process)
    rows = _dialogues(policy.renderer)

    async def together() -> list[Sampled]:
        return await asyncio.gather(*(policy.aturn(row, []) for row in rows * 3))

    here = _here(network, processor, rows)
    _equal(asyncio.run(together()), here * 3)
    # a picture that was sent before is only named
    _equal([policy.turn(row, []) for row in rows], here)


def test_it_samples_from_what_the_optimizer_has_just_written(
    network: Any, processor: PictureProcessor, process: SamplerProcess
) -> None:
    policy = _policy(network, processor).through(process)
    rows = _dialogues(policy.renderer)
    before = [policy.turn(row, []) for row in rows]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        sum(weight.square().sum() for weight in network.parameters()).backward()
        for weight in network.parameters():
            assert weight.grad is not None
            weight.grad += torch.randn_like(weight.grad)
        optimizer.step()
    there = [policy.through(process).turn(row, []) for row in rows]
    assert [one.logprobs for one in there] != [one.logprobs for one in before]
    _equal(there, _here(network, processor, rows))


def test_weights_that_were_exchanged_are_shared_anew(
    network: Any, processor: PictureProcessor, process: SamplerProcess
) -> None:
    """Assigning a state dict gives the network other tensors; the process must not go on with the old ones."""
    policy = _policy(network, processor).through(process)
    rows = _dialogues(policy.renderer)
    torch.manual_seed(5)
    other = {name: torch.randn_like(value) * 0.3 for name, value in network.state_dict().items()}
    network.load_state_dict(other, assign=True)
    network.tie_weights()
    there = [policy.through(process).turn(row, []) for row in rows]
    _equal(there, _here(network, processor, rows))


def test_what_a_dialogue_raises_is_raised_here_and_others_are_answered(
    network: Any, processor: PictureProcessor, process: SamplerProcess
) -> None:
    policy = _policy(network, processor).through(process)
    rows = _dialogues(policy.renderer)
    long = Rendered(rows[2].ids * 2000, [0] * len(rows[2].ids) * 2000, [])
    blind = Rendered(rows[0].ids, rows[0].mask, [])  # placeholders without a picture

    async def together() -> list[Any]:
        return await asyncio.gather(*(policy.aturn(row, []) for row in (long, blind, rows[2])), return_exceptions=True)

    full, placeless, said = asyncio.run(together())
    assert isinstance(full, ContextFull)
    assert isinstance(placeless, ValueError)
    _equal([said], _here(network, processor, [rows[2]]))


def test_seeds_of_this_process_decide_what_is_sampled_there(
    network: Any, processor: PictureProcessor, process: SamplerProcess
) -> None:
    def said(seed: int) -> list[int]:
        torch.manual_seed(seed)
        policy = _policy(network, processor, temperature=1.0).through(process)
        return policy.turn(_dialogues(policy.renderer)[2], []).ids

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_a_cancelled_turn_is_sampled_no_further(
    network: Any, processor: PictureProcessor, process: SamplerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = _policy(network, processor).through(process)
    row = _dialogues(policy.renderer)[2]
    told: list[Any] = []
    monkeypatch.setattr(process._channel, "put", lambda message: told.append(pickle.loads(message)))

    async def interrupted() -> None:
        turn = asyncio.create_task(policy.aturn(row, []))
        await asyncio.sleep(0)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)

    asyncio.run(interrupted())
    assert [message[0] for message in told] == ["turn", "drop"]
    assert not process._channel.waiting


def test_a_turn_of_an_earlier_batch_is_told_that_it_comes_too_late(
    network: Any, processor: PictureProcessor, process: SamplerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = _policy(network, processor).through(process)
    with monkeypatch.context() as deaf:
        deaf.setattr(process._channel, "put", lambda message: None)
        late = policy.submit(_dialogues(policy.renderer)[2])
    policy.through(process)
    with pytest.raises(RuntimeError, match="another batch of rollouts began"):
        late.result(5)


def test_the_weights_leave_no_file_behind(processor: PictureProcessor, process: SamplerProcess, network: Any) -> None:
    _policy(network, processor).through(process).turn(_dialogues(Renderer(processor))[2], [])
    assert process._weights is not None
    assert not process._weights.path.exists()


def test_who_waits_for_a_process_that_was_killed_is_told(network: Any, processor: PictureProcessor) -> None:
    one = SamplerProcess(network, processor)
    try:
        policy = ProcessPolicy(model="tiny", max_new_tokens=4000, temperature=1.0)
        policy.attach(network, Renderer(processor)).through(one)
        row = _dialogues(policy.renderer)[2]
        turn: Future[Sampled] = policy.submit(row)
        one._process.kill()
        with pytest.raises(RuntimeError, match=r"samples ended with exit code -9.*sampler=thread"):
            turn.result(20)
        with pytest.raises(RuntimeError, match="ended with exit code -9"):
            policy.submit(row)
        assert one.ended
        with pytest.raises(RuntimeError, match="ended with exit code -9"):
            policy.through(one)
    finally:
        one.close()


def test_a_process_that_nobody_needs_any_more_ends(network: Any, processor: PictureProcessor) -> None:
    one = SamplerProcess(network, processor)
    started = one._process
    del one
    gc.collect()
    assert started.wait(10) is not None


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    class Stubborn(Exception):
        pass

    told = worker._sendable(Stubborn("a lock"))
    assert isinstance(told, RuntimeError)
    assert str(told) == "Stubborn: a lock"
    assert isinstance(worker._sendable(ContextFull("long")), ContextFull)


@pytest.mark.slow
def test_it_ends_with_the_program_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from lensgraph.agent.pocket import checkpoint\n"
        "from lensgraph.agent.policy.qwen.processor import load_processor\n"
        "from pathlib import Path\n"
        "from lensgraph.rl.grpo.build_trainer import load_policy\n"
        "from lensgraph.rl.sampler.process import SamplerProcess\n"
        "folder = Path(checkpoint('pocket'))\n"
        "one = SamplerProcess(load_policy(folder), load_processor(folder))\n"  # not guarded by __name__: no recursion
        "one.begin(temperature=0.0, max_new_tokens=4)\n"
        "print(one._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    repository = str(Path(lensgraph.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": repository}
    ) as started:
        assert started.stdout is not None
        sampler = int(started.stdout.readline())
        started.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not _alive(sampler):
            break
        time.sleep(0.1)
    else:
        os.kill(sampler, signal.SIGKILL)
        pytest.fail("the sampler outlived its program")
    if MEMORY.is_dir():
        assert not [path for path in MEMORY.glob("lensgraph-*.weights") if time.time() - path.stat().st_mtime < 5]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc").is_dir()
    return state != "Z"


# --- weights in shared memory


def test_shared_weights_are_the_networks_own(processor: PictureProcessor, tiny_size: dict[str, int]) -> None:
    size = PocketSize(**tiny_size)
    network, other = pocket.build_network(processor, size), pocket.build_network(processor, size)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shared = SharedWeights.share(network)
    try:
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        SharedWeights.attach(other, shared.path, shared.places)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(2)
        for (name, ours), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs), name
        tied = network.get_input_embeddings().weight is network.lm_head.weight
        assert (other.get_input_embeddings().weight is other.lm_head.weight) == tied
        assert shared.holds(network)
        network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.detach().clone())
        assert not shared.holds(network)
    finally:
        shared.forget_name()


def test_weights_of_another_network_are_refused() -> None:
    shared = SharedWeights.share(torch.nn.Linear(2, 3))
    try:
        with pytest.raises(ValueError, match="weights of another network"):
            SharedWeights.attach(torch.nn.Linear(2, 2), shared.path, shared.places)
    finally:
        shared.forget_name()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux where an open file lies")
def test_without_room_in_memory_the_weights_go_to_a_file_and_without_any_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container has 64 MB of shared memory unless it is told otherwise; writing beyond it would kill the program."""
    small, large = tmp_path / "memory", tmp_path / "files"
    small.mkdir()
    large.mkdir()
    monkeypatch.setattr(shared_weights, "MEMORY", small)
    monkeypatch.setattr(tempfile, "tempdir", str(large))
    full = {small}
    stock = os.posix_fallocate

    def allocate(number: int, offset: int, size: int) -> None:
        if any(Path(os.readlink(f"/proc/self/fd/{number}")).parent == folder for folder in full):
            raise OSError(errno.ENOSPC, "No space left on device")
        stock(number, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    network = torch.nn.Linear(3, 3)
    shared = SharedWeights.share(network)
    assert shared.path.parent == large
    assert not list(small.iterdir())
    shared.forget_name()
    full.add(large)
    with pytest.raises(OSError, match="no room to share .* MB of weights between processes; use sampler=thread"):
        SharedWeights.share(network)
    assert not list(large.iterdir())


def test_every_kind_of_number_survives() -> None:
    network = torch.nn.Module()
    network.a = torch.nn.Parameter(torch.randn(3, 5, dtype=torch.bfloat16))
    network.b = torch.nn.Parameter(torch.randn(7, dtype=torch.float64))
    network.register_buffer("c", torch.arange(3))
    network.register_buffer("d", torch.empty(0))
    network.register_buffer("not kept", torch.ones(2), persistent=False)
    network.tied = torch.nn.ParameterList([network.a])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shared = SharedWeights.share(network)
    shared.forget_name()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [place.name for place in shared.places] == ["a", "b", "c", "d"]
    assert all(place.offset % 64 == 0 for place in shared.places)


# --- where to sample


def test_a_process_is_chosen_where_there_is_a_core_for_it(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert sampler_process.faster_place(network) == "process"
    assert sampler_process.faster_place(network, processes=2) == "thread"
    assert sampled_in(GRPORecipe(), network) == "process"
    assert sampled_in(GRPORecipe(lora={"r": 4}), network) == "thread"
    assert sampled_in(GRPORecipe(vllm="colocate"), network) == "thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # OMP_NUM_THREADS=1: one core is what it may use
    assert sampled_in(GRPORecipe(), network) == "thread"
    assert sampled_in(GRPORecipe(sampler="process"), network) == "process"


def test_a_process_that_cannot_be_is_refused(network: Any, processor: PictureProcessor) -> None:
    with pytest.raises(ValueError, match="sampler=process: not possible here \\(lora\\); use sampler=thread"):
        sampled_in(GRPORecipe(sampler="process", lora={"r": 4}), network)
    with pytest.raises(ValueError, match="not a plain Qwen2.5-VL on a CPU"):
        sampled_in(GRPORecipe(sampler="process"), torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot be sampled in another process"):
        SamplerProcess(torch.nn.Linear(2, 2), processor)


# --- in training

VISION = ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")


def _train_tasks() -> dict[str, Task]:
    pictures = [Image.effect_noise((56, 56 + 28 * n), 80).convert("RGB") for n in range(2)]
    return {
        f"t{n}": Task(id=f"t{n}", question="What is it?", images=(picture.copy,), golds=("x",), knowledge="unknown")
        for n, picture in enumerate(pictures)
    }


async def _by_number(trajectory: Trajectory, task: Task) -> dict[str, float]:
    """Differs within every group."""
    return {"total": float(trajectory.id.partition("#")[2].partition("@")[0])}


def test_what_is_trained_is_what_the_process_sampled_with_the_weights_of_that_step(
    network: Any, processor: PictureProcessor, tmp_path: Path
) -> None:
    """Every batch's sampled log-probabilities are those of the trainer's network before the update, over three updates."""
    tasks = _train_tasks()
    setup = RolloutSetup(
        graph="search_agent", config=load_config(), policy=TransformersPolicy(model="none"), dialect=build("compact"),
        reward=_by_number,
        tools={"text_search": FixedText(), "image_search": FixedImage(), "locate": FixedLocator()},
    )  # fmt: skip
    trainer = GraphGRPOTrainer(
        model=network,
        args=GRPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, **checkpointing.argument(False), report_to=[], max_steps=3,
            save_strategy="no", disable_tqdm=True, per_device_train_batch_size=8, num_generations=4, learning_rate=3e-2,
            max_completion_length=12, temperature=1.0, max_grad_norm=0.0,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": name}]} for name in tasks]),
        processing_class=processor,
        rollouts=GraphRollouts(tasks=tasks, setup=setup, concurrent=8, sampler="process"),
    )  # fmt: skip
    furthest: list[float] = []
    stock = trainer._generate_and_score_completions

    def checked(inputs: Any) -> Any:
        batch = stock(inputs)
        with torch.no_grad():
            trained = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
                batch["completion_ids"].shape[1],
                **{key: batch[key] for key in VISION if key in batch},
            )[0]
        for row, rollout in enumerate(trainer.made):
            border = rollout.rendered.mask.index(1)
            sampled = torch.tensor(rollout.trajectory.logprobs[border:])
            mask = torch.tensor(rollout.rendered.mask[border:]).bool()
            furthest.append(float((trained[row, : len(sampled)] - sampled)[mask].abs().max()))
        return batch

    trainer._generate_and_score_completions = checked
    before = network.lm_head.weight.detach().clone()
    sampling = trainer._sampler
    trainer.train()
    assert len(furthest) == 3 * 8
    assert max(furthest) < 1e-4
    assert (network.lm_head.weight - before).abs().max() > 0.02  # so that stale weights would have been seen
    assert sampling is not None
    assert sampling._process.poll() is not None  # it has ended with the training
    assert trainer._sampler is None


def test_a_process_that_died_is_replaced_at_the_next_step(
    network: Any, processor: PictureProcessor, process: SamplerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = SimpleNamespace(ended=True, close=lambda: closed.append(True))
    closed: list[bool] = []
    trainer = SimpleNamespace(
        use_vllm=False, temperature=1.0, max_completion_length=8, renderer=Renderer(processor), _own_network=network,
        rollouts=SimpleNamespace(concurrent=8, sampler="process", reuse_bytes=0), _sampler=dead,
        _start_sampler=lambda: process,
    )  # fmt: skip
    trainer.close_sampler = lambda: GraphGRPOTrainer.close_sampler(trainer)  # type: ignore[arg-type]
    with GraphGRPOTrainer._policy(trainer) as policy:  # type: ignore[arg-type]
        assert isinstance(policy, ProcessPolicy)
        assert policy._process is process
    assert closed == [True]
