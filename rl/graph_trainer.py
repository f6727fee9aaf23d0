"""TRL's GRPO trainer with a LangGraph graph as the rollout.

Four private methods of TRL 1.16.0 are replaced, and their signatures are tested:

- `_generate` runs the graph once a row and returns token-exact rows, pictures of any turn included;
- `_generate_and_score_completions` restricts the loss to chosen nodes and spreads credit by decision;
- `_compute_loss` leaves out rows that cannot change the loss (`rl.idle_rows`);
- `_get_per_token_logps_and_entropies` leaves the vision tower out of chunks that hold no picture, which the stock method
  cannot do.

Sampling goes through the policy that serves the graph (`TransformersPolicy`), attached to the network in training; with
vLLM it goes through TRL's own single-turn generator, weight synchronisation included.

Invariants, checked on every batch: the mask is 1 on sampled tokens only; placeholders, pictures and grids agree row by
row, because TRL would otherwise silently train without any picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from transformers import BatchFeature
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from agent.policy.batching import Batches, Worker
from agent.policy.render import Pixels, Rendered, Renderer
from agent.policy.sampled import Sampled
from agent.policy.transformers import TransformersPolicy
from rl.collate import check_pictures
from rl.graphs import GRAPHS
from rl.idle_rows import LOSSES, worth_a_pass
from rl.rollout import Rollout, Setting, gathered
from rl.tasks import Task
from rl.trajectory import TrajectoryStore

T = TypeVar("T")
Credit = Literal["trajectory", "decision"]


@dataclass
class GraphRollouts:
    """What the trainer needs to know about the graph."""

    tasks: Mapping[str, Task]
    """Every task by id; a prompt of the data set is a task's id."""
    setting: Setting
    """Graph, tools, dialect and reward; its policy is replaced by the one in training."""
    concurrent: int = 64
    """Episodes at a time on each process."""
    store: TrajectoryStore | None = None
    """Where trajectories are kept; None: nowhere."""
    train_nodes: tuple[str, ...] = ()
    """Nodes whose decisions are trained; empty: all."""
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
        nodes = set(GRAPHS[rollouts.setting.graph].get_graph().nodes)
        if unknown := sorted(set(rollouts.train_nodes) - nodes):
            raise ValueError(
                f"train_nodes: {rollouts.setting.graph} has no node {', '.join(unknown)}; it has {', '.join(sorted(nodes))}"
            )
        self.rollouts = rollouts
        self.renderer = Renderer(self.processing_class, keep_pictures=self.use_vllm)
        self.made: list[Rollout] = []
        self.seconds: dict[str, float] = {}
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
        started = time.perf_counter()
        with self._policy() as policy:
            setting = replace(
                self.rollouts.setting, policy=policy, temperature=self.temperature, step=self.state.global_step
            )
            made = in_own_loop(gathered(tasks, setting, concurrent=self.rollouts.concurrent, numbers=numbers))
        self.seconds["rollout"] = time.perf_counter() - started
        self.made = made
        if all(rollout.trajectory.error is not None for rollout in made):
            raise RuntimeError(f"every rollout of the step failed; the first: {made[0].trajectory.error}")
        if self.rollouts.store is not None and mode == "train":
            for rollout in made:
                self.rollouts.store.append(rollout.trajectory, rollout.pictures)
        if self.rollouts.on_step is not None and mode == "train":
            self.rollouts.on_step(made, self.state.global_step)
        self._record(made, mode)
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
                yield TransformersPolicy(**options).attach(network, self.renderer)
            finally:
                network.train(training)

    def _engine(self, ids: list[list[int]], pixels: list[list[Pixels]]) -> tuple[Any, Any]:
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

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        with pixels_as_pictures(self.processing_class):
            output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        self._level(output["advantages"])
        decisions = [_decisions(rollout) for rollout in self.made]
        if self.rollouts.train_nodes:
            for row, found in enumerate(decisions):
                for decision in found:
                    if decision.node not in self.rollouts.train_nodes:
                        output["tool_mask"][row, decision.start : decision.end] = 0
            loss_mask = output["completion_mask"] * output["tool_mask"]
            output["num_items_in_batch"] = self.accelerator.gather(loss_mask.sum()).sum()
        if self.rollouts.credit == "decision" and mode == "train":
            output["advantages"] = self._by_decision(decisions, output)
        self._record_decisions(decisions, output, mode)
        return output

    def _level(self, advantages: torch.Tensor) -> None:
        """Nothing where a whole group earned the same: rounding, divided by its own spread, leaves it up to 6e-4."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        earned = [rollout.trajectory.reward["total"] if rollout.trajectory.reward else None for rollout in self.made]
        for start in range(0, len(earned) - size + 1, size):
            if len(set(earned[start : start + size]) - {None}) < 2:
                advantages[start : start + size] = 0.0

    def _by_decision(self, decisions: Sequence[Sequence[_Decision]], output: Mapping[str, Any]) -> torch.Tensor:
        """(rows, completion tokens): every decision's tokens with the advantage of its choice at its step."""
        size = self.num_generations
        spread = output["advantages"][:, None].repeat(1, output["completion_ids"].shape[1]).clone()
        scale = self._scale(decisions)
        if len(decisions) % size:
            raise ValueError(f"credit=decision needs whole groups on each process, got {len(decisions)} rows of {size}")
        for start in range(0, len(decisions), size):
            group = range(start, start + size)
            for (row, number), advantage in decision_advantages(
                {row: [(d.kind, d.reward) for d in decisions[row]] for row in group}, scale
            ).items():
                decision = decisions[row][number]
                spread[row, decision.start : decision.end] = advantage
        return spread

    def _scale(self, decisions: Sequence[Sequence[_Decision]]) -> float | None:
        """What `scale_rewards` divides decisions' advantages by; None: each step's own standard deviation."""
        if self.scale_rewards == "group":
            return None
        if self.scale_rewards == "none":
            return 1.0
        rewards = [row[0].reward for row in decisions if row and row[0].reward is not None]
        return float(torch.tensor(rewards).std()) if len(rewards) > 1 else 1.0

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        plain = self.beta == 0 and self.top_entropy_quantile == 1.0 and not self.aux_loss_enabled
        if self.model.training and plain and not self._entropy_bonus_enabled and self.loss_type in LOSSES:
            inputs = worth_a_pass(inputs)
        return super()._compute_loss(model, inputs)

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
        network = self.accelerator.unwrap_model(self.model)
        network = network.get_base_model() if hasattr(network, "get_base_model") else network
        trained = [weight for weight in network.model.visual.parameters() if weight.requires_grad]
        return sum((0.0 * weight.sum() for weight in trained), torch.zeros((), device=self.accelerator.device))

    # --- figures

    def _record(self, made: Sequence[Rollout], mode: str) -> None:
        metrics = self._metrics[mode]
        done = [rollout.trajectory for rollout in made]
        calls: Counter[str] = Counter()
        seconds = {"policy": 0.0, "tools": 0.0}
        for trajectory in done:
            calls.update(trajectory.calls())
            for step in trajectory.steps:
                seconds["policy" if step.action is not None else "tools"] += step.seconds
        turns = [step for trajectory in done for step in trajectory.decisions]
        malformed = sum(step.kind == "malformed" for step in turns)
        sampled = torch.tensor([float(sum(trajectory.mask)) for trajectory in done])
        metrics["accuracy"].append(sum(trajectory.correct for trajectory in done) / len(done))
        metrics["searches"].append(sum(calls.values()) / len(done))
        for node in ("image_search", "text_search"):
            metrics[f"searches/{node}"].append(calls[node] / len(done))
        metrics["searching"].append(sum(bool(trajectory.calls()) for trajectory in done) / len(done))
        metrics["malformed_turns"].append(malformed / max(1, len(turns)))
        metrics["turns"].append(len(turns) / len(done))
        metrics["failed"].append(sum(trajectory.error is not None for trajectory in done) / len(done))
        metrics["completions/mean_length"].append(
            self.accelerator.gather(sampled.to(self.accelerator.device)).mean().item()
        )
        metrics["seconds/rollout"].append(self.seconds["rollout"])
        for kind, value in seconds.items():
            metrics[f"seconds/{kind}_per_episode"].append(value / len(done))

    def _record_decisions(
        self,
        decisions: Sequence[Sequence[_Decision]],
        output: Mapping[str, Any],
        mode: str,
    ) -> None:
        """For every kind of decision: how often, at which mean advantage, and its share of the loss's tokens."""
        counts: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        sums: defaultdict[str, float] = defaultdict(float)
        mask, advantages = output["completion_mask"] * output["tool_mask"], output["advantages"]
        for row, found in enumerate(decisions):
            for decision in found:
                counts[decision.kind] += 1
                tokens[decision.kind] += int(mask[row, decision.start : decision.end].sum())
                sums[decision.kind] += float(
                    advantages[row] if advantages.dim() == 1 else advantages[row, decision.start]
                )
        for kind, count in counts.items():
            metrics = self._metrics[mode]
            metrics[f"decisions/{kind}/share"].append(count / counts.total())
            metrics[f"decisions/{kind}/advantage"].append(sums[kind] / count)
            metrics[f"decisions/{kind}/loss_share"].append(tokens[kind] / max(1, tokens.total()))


@dataclass(frozen=True)
class _Row:
    rendered: Rendered
    logprobs: list[float]
    border: int


@dataclass(frozen=True)
class _Decision:
    node: str
    kind: str
    start: int
    end: int
    reward: float | None


def _decisions(rollout: Rollout) -> list[_Decision]:
    """The rollout's sampled turns, with their borders in the completion."""
    trajectory = rollout.trajectory
    if not any(rollout.rendered.mask):
        return []
    border = rollout.rendered.mask.index(1)
    total = trajectory.reward["total"] if trajectory.reward else None
    return [
        _Decision(step.node, step.kind, step.tokens[0] - border, step.tokens[1] - border, total)
        for step in trajectory.decisions
        if step.tokens is not None
    ]


def decision_advantages(
    group: Mapping[int, Sequence[tuple[str, float | None]]], scale: float | None = None
) -> dict[tuple[int, int], float]:
    """Advantages by decision: {(row, number of the decision): advantage} for rows of (choice, reward of the episode).

    At every step the group's episodes that got there are compared by what they chose: a choice is worth the mean reward
    of those that made it, its advantage is that minus the mean of all, over `scale` (None: the standard deviation of
    their rewards).
    Rows without a reward (None) take no part and get 0.
    """
    found: dict[tuple[int, int], float] = {}
    for number in range(max((len(row) for row in group.values()), default=0)):
        here = {row: chosen[number] for row, chosen in group.items() if len(chosen) > number}
        rewards = [reward for _, reward in here.values() if reward is not None]
        if not rewards:
            found |= dict.fromkeys(((row, number) for row in here), 0.0)
            continue
        mean = sum(rewards) / len(rewards)
        own = (sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1)) ** 0.5
        spread = own if scale is None else scale
        worth: defaultdict[str, list[float]] = defaultdict(list)
        for choice, reward in here.values():
            if reward is not None:
                worth[choice].append(reward)
        for row, (choice, reward) in here.items():
            mine = worth[choice]
            found[row, number] = 0.0 if reward is None else (sum(mine) / len(mine) - mean) / (spread + 1e-4)
    return found


def reward(completions: Sequence[Any], graph_reward: Sequence[float | None], **kwargs: Any) -> list[float | None]:
    """TRL's reward function: what the graph's reward said; None leaves the row out of its group."""
    return list(graph_reward)


def _no_tool() -> None:
    """Stands in for a tool list; nothing calls it."""


def _task_id(prompt: Any) -> str:
    return str(prompt if isinstance(prompt, str) else prompt[-1]["content"])


@contextlib.contextmanager
def pixels_as_pictures(processor: Any) -> Iterator[None]:
    """Within it, the processor takes pictures that were processed in the rollout (`Pixels`) as they are.

    So what is trained on is what was sampled with, bit for bit, and nothing is processed twice.
    """
    stock = processor.image_processor
    processor.image_processor = _Processed(stock)
    try:
        yield
    finally:
        processor.image_processor = stock


class _Processed:
    """An image processor that hands on finished pixels."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __call__(self, images: Sequence[Any], **kwargs: Any) -> Any:
        if not all(isinstance(picture, Pixels) for picture in images):
            return self.stock(images=images, **kwargs)
        values = torch.cat([torch.from_numpy(picture.values) for picture in images])
        grids = torch.tensor([picture.grid for picture in images])
        return BatchFeature({"pixel_values": values, "image_grid_thw": grids})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stock, name)


def in_own_loop(coroutine: Any) -> Any:
    """Run a coroutine to its end on a loop of its own thread: safe where the caller already runs a loop."""
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = asyncio.run(coroutine)
        except BaseException as error:
            box["error"] = error

    thread = threading.Thread(target=run, name="rollouts")
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]
