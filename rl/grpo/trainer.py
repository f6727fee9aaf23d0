"""TRL's GRPO trainer with a LangGraph graph as the rollout.

Four private methods of TRL 1.16.0 are replaced, and their signatures are tested:

- `_generate` runs the graph once a row and returns token-exact rows, pictures of any turn included;
- `_generate_and_score_completions` restricts the loss to rewarded episodes and chosen nodes (`lensgraph.rl.grpo.loss_mask`) and spreads
  credit by decision;
- `_compute_loss` leaves out rows that cannot change the loss (`lensgraph.rl.grpo.zero_advantage`);
- `_get_per_token_logps_and_entropies` leaves the vision tower out of chunks that hold no picture, which the stock method
  cannot do.

Three more are added to: `training_step` (seconds of the update), and `_save_checkpoint` and `_get_train_sampler`, so that a
resumed run stands where the other stopped (`lensgraph.rl.grpo.resumed_batch`).

Sampling goes through the policy that serves the graph (`TransformersPolicy`), attached to the network in training, in this
process or in one that shares its weights (`lensgraph.rl.sampler.process`); with vLLM it goes through TRL's own single-turn generator,
weight synchronisation included.

Invariants, checked on every batch: the mask is 1 on sampled tokens only; placeholders, pictures and grids agree row by
row, because TRL would otherwise silently train without any picture.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from lensgraph.agent.policy.qwen.batching import Batches, Worker
from lensgraph.agent.policy.qwen.decode import CAPACITY
from lensgraph.agent.policy.qwen.transformers import TransformersPolicy
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.grpo import loss_mask, resumed_batch, sharded
from lensgraph.rl.grpo import metrics as rollout_metrics
from lensgraph.rl.grpo.credit import Credit, decision_advantages
from lensgraph.rl.grpo.finished_pixels import pixels_as_pictures
from lensgraph.rl.grpo.metrics import Decision, decisions_of
from lensgraph.rl.grpo.zero_advantage import LOSSES, needed, worth_a_pass
from lensgraph.rl.network.collate import check_pictures
from lensgraph.rl.rollout.deciders import deciders
from lensgraph.rl.rollout.episode import Rollout, RolloutSetup, roll_in_order
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.rollout.wait_clock import WaitClock
from lensgraph.rl.sampler.process import ProcessPolicy, Sampler, SamplerProcess
from lensgraph.rl.tasks import Task

T = TypeVar("T")


@dataclass
class GraphRollouts:
    """What the trainer needs to know about the graph."""

    tasks: Mapping[str, Task]
    """Every task by id; a prompt of the data set is a task's id."""
    setup: RolloutSetup
    """Graph, tools, dialect and reward; its policy is replaced by the one in training."""
    concurrent: int = 64
    """Episodes at a time on each process."""
    reuse_bytes: int = CAPACITY
    """Memory for what was computed for earlier turns; not with an engine, which keeps its own."""
    sampler: Sampler = "thread"
    """Where turns are sampled: in a thread beside the graphs, or in a process of its own (`lensgraph.rl.sampler.process`)."""
    store: TrajectoryStore | None = None
    """Where trajectories are kept; None: nowhere."""
    train_nodes: tuple[str, ...] = ()
    """Nodes whose decisions are trained, as records name them (`lensgraph.rl.rollout.deciders`); empty: all."""
    credit: Credit = "trajectory"
    """`trajectory`: every decision gets its episode's advantage. `decision`: a decision gets the advantage of its choice,
    which is the mean reward of the group's episodes that chose the same at the same step, against all that got there."""
    on_step: Callable[[Sequence[Rollout], int], None] | None = None
    """Called with every batch of training rollouts and the step: a shadow price or a display listens here."""


class EnginePolicy(TransformersPolicy):
    """The policy behind a trainer that samples with an engine of its own (vLLM)."""

    engine: Any = None
    """(prompt ids, pictures) of a batch -> (sampled ids, their log-probabilities)."""

    def sample(self, batch: Sequence[Rendered], stops: Sequence[Sequence[str]] = ()) -> list[Sampled]:
        """One turn for every dialogue, through the engine."""
        ids, logprobs = self.engine([row.ids for row in batch], [row.pixels for row in batch])
        return [Sampled(list(said), list(scores)) for said, scores in zip(ids, logprobs, strict=True)]

    def worker(self) -> Worker:
        """Such an engine takes whole batches."""
        return Batches(lambda rows, stops: self.sample(rows, stops), self.max_batch)


class GraphGRPOTrainer(GRPOTrainer):
    """GRPO in which the episode is a run of a compiled graph."""

    def __init__(self, *args: Any, rollouts: GraphRollouts, **kwargs: Any) -> None:
        super().__init__(*args, reward_funcs=[reward], **kwargs)
        sharded.refuse(self.accelerator)
        # both `_level` and `_by_decision` compare the rows of one group, which must be here
        each = self.args.per_device_train_batch_size * self.args.steps_per_generation
        if each % self.num_generations:
            raise ValueError(
                f"a batch of rollouts is {each} rows a process, which splits groups of num_generations="
                f"{self.num_generations}; change per_device_train_batch_size, steps_per_generation or the processes"
            )
        nodes = deciders(rollouts.setup.graph)
        if unknown := sorted(set(rollouts.train_nodes) - set(nodes)):
            raise ValueError(
                f"train_nodes: in {rollouts.setup.graph} the policy decides nothing in {', '.join(unknown)}; "
                f"it decides in {', '.join(nodes)}"
            )
        self.rollouts = rollouts
        self.renderer = Renderer(self.processing_class, keep_pictures=self.use_vllm)
        self.made: list[Rollout] = []
        self._generating = self._updating = 0.0
        self._resumed = 0
        self._sampler: SamplerProcess | None = None
        if rollouts.sampler == "process" and not self.use_vllm:
            self._start_sampler()  # now, so that its imports run beside ours
        # a flag only: it selects TRL's own branch in which pictures may stand in the completion
        self.tools = [_no_tool]
        self._standalone_tools: list[Any] = []

    # --- generation

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        mode = "train" if self.model.training else "eval"
        tasks = [self.rollouts.tasks[_task_id(prompt)] for prompt in prompts]
        numbers: list[int] = []
        seen: Counter[str] = Counter()
        for task in tasks:
            numbers.append(seen[task.id])
            seen[task.id] += 1
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
                    numbers=numbers,
                    # as they finish: a kill loses those that are under way, not the whole step
                    on_done=None if store is None else lambda one: store.append(one.trajectory, one.pictures),
                )
            )
        self.made = made
        metrics = self._metrics[mode]
        for name, seconds in {"rollout": time.perf_counter() - started, **clock.seconds}.items():
            metrics[f"seconds/{name}"].append(rollout_metrics.slowest(seconds))
        sums = rollout_metrics.added(rollout_metrics.episodes(made))
        if sums["failed"] == sums["episodes"]:
            raise RuntimeError(f"every rollout of the step failed; the first: {made[0].trajectory.error}")
        for name, value in rollout_metrics.of_episodes(sums).items():
            metrics[name].append(value)
        if self.rollouts.on_step is not None and mode == "train":
            self.rollouts.on_step(made, self.state.global_step)
        rows = [self._row(rollout) for rollout in made]
        pictures = [row.rendered.pixels for row in rows]
        for row in rows:
            check_pictures(row.rendered, self.renderer)
        logprobs = [row.logprobs for row in rows] if self.use_vllm else None
        completions = [[{"role": "assistant", "content": made_.trajectory.answer or ""}] for made_ in made]
        rewards = [rollout.trajectory.reward["total"] if rollout.trajectory.reward else None for rollout in made]
        return (
            [row.rendered.ids[: row.border] for row in rows],
            [row.rendered.ids[row.border :] for row in rows],
            [row.rendered.mask[row.border :] for row in rows],
            completions,
            logprobs,
            {"graph_reward": rewards},
            pictures if any(pictures) else None,
            pictures,
        )

    @contextlib.contextmanager
    def _policy(self) -> Iterator[TransformersPolicy]:
        options: dict[str, Any] = {
            "model": "in training",
            "temperature": self.temperature,
            "max_new_tokens": self.max_completion_length,
            "max_batch": self.rollouts.concurrent,
        }
        if self.use_vllm:
            yield EnginePolicy(**options, engine=self._engine).attach(None, self.renderer)  # type: ignore[arg-type]
            return
        if self.rollouts.sampler == "process":
            policy = ProcessPolicy(**options, reuse_bytes=self.rollouts.reuse_bytes)
            policy.attach(self._own_network, self.renderer)
            if self._sampler is not None and self._sampler.ended:  # killed for its memory, say; the next may live
                self.close_sampler()
            yield policy.through(self._sampler or self._start_sampler())
            return
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as network,
        ):
            training = network.training
            network.eval()
            try:
                yield TransformersPolicy(**options, reuse_bytes=self.rollouts.reuse_bytes).attach(
                    network, self.renderer
                )
            finally:
                network.train(training)

    @property
    def _own_network(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def _start_sampler(self) -> SamplerProcess:
        self._sampler = SamplerProcess(self._own_network, self.processing_class)
        return self._sampler

    def close_sampler(self) -> None:
        """End the sampling process, if there is one; the next rollout begins another."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def _engine(self, ids: list[list[int]], pixels: list[list[Pixels]]) -> tuple[Any, Any]:
        if self.accelerator.device.type == "cuda":  # a device is chosen thread by thread, and this one is the sampler's
            torch.cuda.set_device(self.accelerator.device)
        pictures = [[picture.picture for picture in row] or None for row in pixels]
        some = any(pictures)
        return self._generate_single_turn(ids, pictures if some else None, {}, 1, has_tool_images=some)

    def _row(self, rollout: Rollout) -> _Row:
        """The rollout as a training row. A failed one becomes an end-of-turn token that carries no loss."""
        rendered = rollout.rendered
        if not any(rendered.mask):
            eos = self.renderer.eos
            return _Row(Rendered([eos, eos], [0, 0], []), [0.0], 1)
        border = rendered.mask.index(1)
        return _Row(rendered, list(rollout.trajectory.logprobs[border:]), border)

    # --- training

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass, after a new batch of rollouts where it is time for one; timed apart."""
        started, self._generating = time.perf_counter(), 0.0
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._updating += time.perf_counter() - started - self._generating
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._metrics["train"]["seconds/update"].append(self._updating)
            self._updating = 0.0
        return loss

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        started = time.perf_counter()
        with pixels_as_pictures(self.processing_class):
            output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        self._level(output["advantages"])
        decisions = [decisions_of(rollout) for rollout in self.made]
        loss_mask.leave_out(output, self.made, decisions, self.rollouts.train_nodes, self.accelerator.gather)
        if self.rollouts.credit == "decision" and mode == "train":
            output["advantages"] = self._by_decision(decisions, output)
        by_row = self.loss_type in ("grpo", "sapo")
        sums = rollout_metrics.added(rollout_metrics.decisions(decisions, output, by_row=by_row))
        for name, value in rollout_metrics.of_decisions(sums).items():
            self._metrics[mode][name].append(value)
        self._generating += time.perf_counter() - started
        return output

    def _level(self, advantages: torch.Tensor) -> None:
        """Nothing where a whole group earned the same: rounding, divided by its own spread, leaves it up to 6e-4.

        In training this process holds whole groups (checked at the start); an evaluation that splits them is left alone.
        """
        size = self.num_generations if self.model.training else self.num_generations_eval
        if len(self.made) % size:
            return
        earned = [rollout.trajectory.reward["total"] if rollout.trajectory.reward else None for rollout in self.made]
        for start in range(0, len(earned) - size + 1, size):
            if len(set(earned[start : start + size]) - {None}) < 2:
                advantages[start : start + size] = 0.0

    def _by_decision(self, decisions: Sequence[Sequence[Decision]], output: Mapping[str, Any]) -> torch.Tensor:
        """(rows, completion tokens): every decision's tokens with the advantage of its choice at its step."""
        size = self.num_generations
        spread = output["advantages"][:, None].repeat(1, output["completion_ids"].shape[1]).clone()
        scale = self._scale(decisions)
        for start in range(0, len(decisions), size):
            group = range(start, start + size)
            for (row, number), advantage in decision_advantages(
                {row: [(d.kind, d.reward) for d in decisions[row]] for row in group}, scale
            ).items():
                decision = decisions[row][number]
                spread[row, decision.start : decision.end] = advantage
        return spread

    def _scale(self, decisions: Sequence[Sequence[Decision]]) -> float | None:
        """What `scale_rewards` divides decisions' advantages by; None: each step's own standard deviation."""
        if self.scale_rewards == "group":
            return None
        if self.scale_rewards == "none":
            return 1.0
        own = [row[0].reward for row in decisions if row and row[0].reward is not None]
        rewards = gather_object(own)  # of the whole step, as TRL does
        return float(torch.tensor(rewards).std()) if len(rewards) > 1 else 1.0

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        plain = self.beta == 0 and self.top_entropy_quantile == 1.0 and not self.aux_loss_enabled
        if self.model.training and plain and not self._entropy_bonus_enabled and self.loss_type in LOSSES:
            inputs = worth_a_pass(inputs, max(gather_object([needed(inputs)])))
        return loss_mask.per_kept_row(super()._compute_loss(model, inputs), inputs, self.loss_type)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **rest: Any,
    ) -> Any:
        stock = super()._get_per_token_logps_and_entropies
        grids, counts = rest.get("image_grid_thw"), rest.get("num_images")
        if rest.get("pixel_values") is None or grids is None or counts is None:
            logprobs, *others = stock(model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **rest)
            return (logprobs + self._untouched_tower(), *others)
        pixels = rest.pop("pixel_values")
        rest.pop("image_grid_thw"), rest.pop("num_images")
        kinds = rest.pop("mm_token_type_ids", None)
        patches = [int(part.prod(-1).sum()) if len(part) else 0 for part in torch.split(grids, counts)]
        made, size = [], batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            end = min(start + size, len(input_ids))
            part = dict(rest)
            if kinds is not None:
                part["mm_token_type_ids"] = kinds[start:end]
            if sum(counts[start:end]):
                first, row = sum(counts[:start]), sum(patches[:start])
                part["image_grid_thw"] = grids[first : first + sum(counts[start:end])]
                part["pixel_values"] = pixels[row : row + sum(patches[start:end])]
                part["num_images"] = counts[start:end]
            made.append(stock(model, input_ids[start:end], attention_mask[start:end], logits_to_keep, **part))
        if not sum(counts):
            made[0] = (made[0][0] + self._untouched_tower(), *made[0][1:])
        logprobs = torch.cat([one[0] for one in made])
        entropies = torch.cat([one[1] for one in made]) if made[0][1] is not None else None
        losses = torch.stack([one[2] for one in made]).mean() if made[0][2] is not None else None
        return logprobs, entropies, losses

    def _untouched_tower(self) -> torch.Tensor:
        """Nothing, by way of every trained weight of the vision tower: several processes wait for all gradients."""
        if not torch.is_grad_enabled():
            return torch.zeros((), device=self.accelerator.device)
        network = self._own_network
        network = network.get_base_model() if hasattr(network, "get_base_model") else network
        trained = [weight for weight in network.model.visual.parameters() if weight.requires_grad]
        return sum((0.0 * weight.sum() for weight in trained), torch.zeros((), device=self.accelerator.device))

    # --- resuming

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        resumed_batch.wind(sampler, self._resumed * self.args.gradient_accumulation_steps, self._passes_per_batch)
        return sampler

    @property
    def _passes_per_batch(self) -> int:
        """Forward passes on one batch of rollouts."""
        return int(self.args.steps_per_generation * self.num_iterations)

    @property
    def _layout(self) -> dict[str, int]:
        """What decides how a batch of rollouts is cut, by the names of TRL and accelerate."""
        return {
            "per_device_train_batch_size": self.args.per_device_train_batch_size,
            "steps_per_generation": self.args.steps_per_generation,
            "gradient_accumulation_steps": self.args.gradient_accumulation_steps,
            "num_iterations": self.num_iterations,
            "num_generations": self.num_generations,
            "num_processes": self.accelerator.num_processes,
        }

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        passes = step * self.args.gradient_accumulation_steps
        if passes % self._passes_per_batch and self._buffered_inputs is not None:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{step}"
            resumed_batch.keep(folder, self.accelerator.process_index, self._buffered_inputs, self._layout)
        self.accelerator.wait_for_everyone()  # a checkpoint is whole once all have written their part

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """TRL's, but resumed it also stands where the run stood that wrote the checkpoint."""
        try:
            if resume_from_checkpoint is True:
                resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True  # True: told by TRL itself
            if isinstance(resume_from_checkpoint, str):
                folder = Path(resume_from_checkpoint)
                self._resumed = int(folder.name.rpartition("-")[2])
                self._step = self._resumed * self.args.gradient_accumulation_steps
                self._buffered_inputs = resumed_batch.kept(
                    folder, self.accelerator.process_index, self.accelerator.device, self._layout
                )
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.close_sampler()


@dataclass(frozen=True)
class _Row:
    rendered: Rendered
    logprobs: list[float]
    border: int


def reward(completions: Sequence[Any], graph_reward: Sequence[float | None], **kwargs: Any) -> list[float | None]:
    """TRL's reward function: what the graph's reward said; None leaves the row out of its group."""
    return list(graph_reward)


def _no_tool() -> None:
    """Stands in for a tool list; nothing calls it."""


def _task_id(prompt: Any) -> str:
    return str(prompt if isinstance(prompt, str) else prompt[-1]["content"])
