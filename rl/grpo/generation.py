"""Generation: the graph runs once for each row, and its rollouts become TRL's training rows.

Turns are sampled by the policy that serves the graph (`TransformersPolicy`), attached to the network in
training: in a thread of this process, in a process that shares its weights (`lensgraph.rl.sampler.process`),
or with vLLM through TRL's own single-turn generator, which also synchronises the weights.

Invariants, checked on every batch: the mask is 1 on sampled tokens only; placeholders, pictures and grids
agree row by row, because TRL would otherwise silently train without any picture.
"""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.qwen.batching import StaticBatching, Worker
from lensgraph.agent.policy.qwen.decode import CAPACITY
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.grpo import training_metrics
from lensgraph.rl.grpo.credit import Credit
from lensgraph.rl.network.collate import check_pictures
from lensgraph.rl.rollout.episode import Rollout, RolloutSetup, roll_in_order
from lensgraph.rl.rollout.failures import MAX_FAILED_SHARE
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.rollout.wait_clock import WaitClock
from lensgraph.rl.sampler.process import ProcessPolicy, SampledIn, SamplerProcess
from lensgraph.rl.tasks import Task

# TRL 1.16.0 itself reads it, once a step and more; nothing here can be written otherwise
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


@dataclass
class GraphRollouts:
    """Options of the trainer that TRL's configuration has no place for."""

    tasks: Mapping[str, Task]
    """Every task by id; a prompt of the data set is a task's id."""
    setup: RolloutSetup
    """Graph, tools, dialect and reward; its policy is replaced by the one in training."""
    concurrent: int = 64
    """Episodes that run at the same time in each process."""
    reuse_bytes: int = CAPACITY
    """Memory, in bytes, for the KV cache of earlier turns; an engine such as vLLM keeps its own."""
    sampler: SampledIn = "thread"
    """Sample in a thread beside the graphs, or in another process (`lensgraph.rl.sampler.process`)."""
    store: TrajectoryStore | None = None
    """Store that every training trajectory is written to; None: they are not kept."""
    train_nodes: tuple[str, ...] = ()
    """Nodes whose decisions are trained, by the names in the records (`lensgraph.rl.rollout.deciders`);
    empty: all."""
    credit: Credit = "trajectory"
    """Advantage of a decision: that of its episode, or that of its own choice (`lensgraph.rl.grpo.credit`)."""
    refill: int = 0
    """Most times that the groups of a batch without any signal are replaced by groups of other tasks."""
    seed: int = 0
    """Seed of the tasks that replace others."""
    max_failed_share: float = MAX_FAILED_SHARE
    """Largest share of a step's episodes that may fail for no fault of the policy; with more the run ends."""
    on_step: Callable[[Sequence[Rollout], int], None] | None = None
    """Called with every batch of training rollouts and the step; the shadow price of the reward listens here."""


WAITED = ("seconds/rollout", "seconds/policy", "seconds/tools")
"""Metrics of the seconds that a batch of rollouts took."""


class EnginePolicy(TransformersPolicy):
    """The policy behind a trainer that samples with an engine of its own (vLLM)."""

    engine: Any = None
    """Function (prompt ids, pictures) of a batch -> (sampled ids, their log-probabilities)."""

    def sample(
        self, batch: Sequence[Rendered], stops: Sequence[Sequence[str]] = (), goes_on: Any = None
    ) -> list[Sampled]:
        """Sample one turn of every dialogue with the engine."""
        ids, logprobs = self.engine([row.ids for row in batch], [row.pixels for row in batch])
        return [Sampled(list(said), list(scores)) for said, scores in zip(ids, logprobs, strict=True)]

    def worker(self) -> Worker:
        """A worker that collects whole batches, as such an engine takes them."""
        return StaticBatching(lambda rows, stops: self.sample(rows, stops), self.max_batch)


class RolloutTrainer(GRPOTrainer):
    """GRPO whose generation is a run of a compiled graph."""

    def __init__(self, *args: Any, rollouts: GraphRollouts, **kwargs: Any) -> None:
        super().__init__(*args, reward_funcs=[reward], **kwargs)
        self.rollouts = rollouts
        self.renderer = Renderer(self.processing_class, keep_pictures=self.use_vllm)
        self.made: list[Rollout] = []
        """The last batch of rollouts."""
        self.rows: list[Rendered] = []
        """The training rows of that batch."""
        self.grids = families.of(self._own_network).pictures == "grids"
        """Pictures go to TRL as patches and grids; else they stay in `rows`, as TRL knows other layouts only in part."""
        self._sampler: SamplerProcess | None = None
        # a flag only: it selects TRL's own branch in which pictures may stand in the completion
        self.tools = [_no_tool]
        self._standalone_tools: list[Any] = []

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        mode = "train" if self.model.training else "eval"
        self.made = self._roll([self.rollouts.tasks[_task_id(prompt)] for prompt in prompts], mode)
        sums = training_metrics.added(training_metrics.episodes(self.made))
        failures = training_metrics.failures(
            self.made, judged=getattr(self.rollouts.setup.reward, "judge", None) is not None
        )
        for name, value in (training_metrics.of_episodes(sums) | failures.shares()).items():
            self._metrics[mode][name].append(value)
        failures.check(
            self.rollouts.max_failed_share,
            then=f"in step {self.state.global_step + 1}; mend it and go on from the last checkpoint (--resume)",
        )
        if mode == "train":
            if self.rollouts.on_step is not None:
                self.rollouts.on_step(self.made, self.state.global_step)
            if self.rollouts.refill:
                self._refill()
        return self._as_trl(self.made)

    def _refill(self) -> None:
        """Replace the groups of the last batch in which no reward differs, a few times, and log what that cost.

        The step's other metrics are those of the tasks that were due: they are no choice of groups.
        """
        size, due, spent = self.num_generations, len(self.made), 0
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        pool = [task for _, task in sorted(self.rollouts.tasks.items())]
        random.Random(f"{self.rollouts.seed}/{self.state.global_step}").shuffle(pool)
        taken = {rollout.trajectory.task for rollout in self.made}
        pool = [task for task in pool[rank::count] if task.id not in taken]  # each process has a part of its own
        for rounds in range(1, self.rollouts.refill + 1):
            flat = [start for start in range(0, due, size) if not _has_signal(self.made[start : start + size])]
            chosen, pool = pool[: len(flat)], pool[len(flat) :]
            if not any(gather_object([bool(chosen)])):  # processes roll out together
                break
            fresh = self._roll([task for task in chosen for _ in range(size)], "train", first=rounds * due)
            self._add_seconds()
            spent += len(fresh)
            for place, start in zip(range(0, len(fresh), size), flat, strict=False):
                if _has_signal(fresh[place : place + size]):
                    self.made[start : start + size] = fresh[place : place + size]
        flat = [start for start in range(0, due, size) if not _has_signal(self.made[start : start + size])]
        told = training_metrics.added({"due": due, "spent": spent, "groups": due // size, "flat": len(flat)})
        self._metrics["train"]["refill/episodes"].append(told["spent"] / told["due"])
        self._metrics["train"]["refill/without_signal"].append(told["flat"] / told["groups"])

    def _add_seconds(self) -> None:
        """Count the seconds of the last rollouts with those of the ones before: they are of one batch."""
        for name, seconds in self._metrics["train"].items():
            if name in WAITED and len(seconds) > 1:
                seconds[-2:] = [seconds[-2] + seconds[-1]]

    def _roll(self, tasks: Sequence[Task], mode: str, first: int = 0) -> list[Rollout]:
        """Run the graph once for each task, and log the seconds that it took; numbers of rollouts begin at `first`."""
        started, clock = time.perf_counter(), WaitClock()
        store = self.rollouts.store if mode == "train" else None
        with self._policy() as policy:
            setup = replace(
                self.rollouts.setup,
                policy=policy,
                temperature=self.temperature,
                step=self.state.global_step,
                clock=clock,
            )
            made = in_own_loop(
                roll_in_order(
                    tasks,
                    setup,
                    concurrent=self.rollouts.concurrent,
                    numbers=[first + number for number in _numbers(tasks)],
                    # as they finish: a kill loses those that are under way, not the whole step
                    on_done=None if store is None else lambda one: store.append(one.trajectory, one.pictures),
                )
            )
        for name, seconds in {"rollout": time.perf_counter() - started, **clock.seconds}.items():
            self._metrics[mode][f"seconds/{name}"].append(training_metrics.slowest(seconds))
        return made

    def _as_trl(self, made: Sequence[Rollout]) -> tuple[Any, ...]:
        """The rollouts in the form that `GRPOTrainer._generate` returns."""
        rows = [TrainingRow.of(rollout, self.renderer.eos) for rollout in made]
        for row in rows:
            check_pictures(row.rendered, self.renderer)
        self.rows = [row.rendered for row in rows]
        pictures = [row.rendered.pixels if self.grids else [] for row in rows]
        return (
            [row.rendered.ids[: row.border] for row in rows],
            [row.rendered.ids[row.border :] for row in rows],
            [row.rendered.mask[row.border :] for row in rows],
            [[{"role": "assistant", "content": rollout.trajectory.answer or ""}] for rollout in made],
            [row.logprobs for row in rows] if self.use_vllm else None,
            {"graph_reward": [rollout.trajectory.total_reward for rollout in made]},
            pictures if any(pictures) else None,
            pictures,
        )

    @contextlib.contextmanager
    def _policy(self) -> Iterator[TransformersPolicy]:
        """The policy in training, ready to sample; within it, the network does not train."""
        options: dict[str, Any] = {
            "model": "in training",
            "temperature": self.temperature,
            "max_new_tokens": self.max_completion_length,
            "max_batch": self.rollouts.concurrent,
        }
        if self.use_vllm:
            yield EnginePolicy(**options, engine=self._engine).attach(None, self.renderer)  # type: ignore[arg-type]
            return
        options["reuse_bytes"] = self.rollouts.reuse_bytes
        if self.rollouts.sampler == "process":
            policy = ProcessPolicy(**options)
            policy.attach(self._own_network, self.renderer)
            if self._sampler is not None and self._sampler.ended:  # killed for its memory, say; the next may live
                self.close_sampler()
            yield policy.through(self._sampler or self._start_sampler())
            return
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as network:
            training = network.training
            network.eval()
            try:
                yield TransformersPolicy(**options).attach(network, self.renderer)
            finally:
                network.train(training)

    @property
    def _own_network(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def _start_sampler(self) -> SamplerProcess:
        self._sampler = SamplerProcess(self._own_network, self.processing_class)
        return self._sampler

    def close_sampler(self) -> None:
        """End the sampling process, if there is one; the next rollout starts another."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def _engine(self, ids: list[list[int]], pixels: list[list[Pixels]]) -> tuple[Any, Any]:
        if self.accelerator.device.type == "cuda":  # CUDA's device is set per thread, and this thread is the sampler's
            torch.cuda.set_device(self.accelerator.device)
        pictures = [[picture.picture for picture in row] or None for row in pixels]
        some = any(pictures)
        return self._generate_single_turn(ids, pictures if some else None, {}, 1, has_tool_images=some)


@dataclass(frozen=True)
class TrainingRow:
    """A rollout as a training row."""

    rendered: Rendered
    logprobs: list[float]
    border: int
    """First token of the completion: the first that was sampled."""

    @classmethod
    def of(cls, rollout: Rollout, eos: int) -> TrainingRow:
        """The row of a rollout. A failed one becomes an end-of-turn token that carries no loss."""
        rendered = rollout.rendered
        if not any(rendered.mask):
            return cls(Rendered([eos, eos], [0, 0], []), [0.0], 1)
        border = rendered.mask.index(1)
        return cls(rendered, list(rollout.trajectory.logprobs[border:]), border)


def reward(completions: Sequence[Any], graph_reward: Sequence[float | None], **kwargs: Any) -> list[float | None]:
    """TRL's reward function: the reward that each rollout got. None leaves the row out of its group's mean.

    TRL names its metrics after this function: `rewards/reward/mean`.
    """
    return list(graph_reward)


def _has_signal(group: Sequence[Rollout]) -> bool:
    """Whether two rollouts of a group earned different rewards."""
    return len({one.trajectory.total_reward for one in group} - {None}) > 1


def _no_tool() -> None:
    """Stands in for a tool list; nothing calls it."""


def _task_id(prompt: Any) -> str:
    return str(prompt if isinstance(prompt, str) else prompt[-1]["content"])


def _numbers(tasks: Sequence[Task]) -> list[int]:
    """For each task, how often it came before: the number of the rollout in its group."""
    seen: Counter[str] = Counter()
    numbers = []
    for task in tasks:
        numbers.append(seen[task.id])
        seen[task.id] += 1
    return numbers
