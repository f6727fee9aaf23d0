"""Online reinforcement learning: GRPO over the compiled graph, from a recipe.

`train` loads a policy, measures it on held-out tasks, trains it and measures it again. A run can be killed at any step and
resumed: checkpoints hold the policy, the optimizer and the place in the data; trajectories are kept as they are made.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from transformers import PrinterCallback, TrainerCallback
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig

from lensgraph.agent.config import Config, PolicyConfig
from lensgraph.agent.config import load as load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects import Dialect
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.qwen.decode import CAPACITY
from lensgraph.agent.policy.qwen.processor import PictureProcessor, load_processor
from lensgraph.agent.policy.qwen.transformers import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.graphs import table
from lensgraph.rl.evaluation import evaluate
from lensgraph.rl.evaluation import report as evaluation_report
from lensgraph.rl.evaluation.balance import sample
from lensgraph.rl.evaluation.provenance import weights_in
from lensgraph.rl.grpo import dry_run as dry
from lensgraph.rl.grpo import sharded
from lensgraph.rl.grpo.credit import Credit
from lensgraph.rl.grpo.trainer import GraphGRPOTrainer, GraphRollouts
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.pocket import network as pocket
from lensgraph.rl.pocket.rephrase import in_other_words
from lensgraph.rl.recipes import FOLDER
from lensgraph.rl.rewards.recipe import EpisodeReward, RewardRecipe
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.run import jsonl, trackers
from lensgraph.rl.run.callbacks import Shown, StopAt, SummaryLog
from lensgraph.rl.run.progress_plot import draw
from lensgraph.rl.run.run_folder import (
    fresh_output,
    keep_recipe,
    last_step,
    remove_half_checkpoints,
    step_of,
    whole_checkpoint,
)
from lensgraph.rl.sampler import process as sampler_process
from lensgraph.rl.sampler.process import Sampler
from lensgraph.rl.tasks import Task
from lensgraph.rl.tasks import load as load_tasks

REWARD_STATE = "reward.json"
"""In a checkpoint: what the reward remembers. It is written last of all."""
ORDER = (
    "tasks", "task_limit", "rephrase_share", "balanced", "search_free_share", "prompts", "updates", "num_iterations", "seed",
)  # fmt: skip
"""Recipe fields that decide which tasks come when."""


class GRPORecipe(BaseModel):
    """Everything that decides an online run."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    start_from: str = "pocket"
    """The policy to train: `pocket`, a checkpoint folder, or a model name that transformers finds."""
    output: Path = Path("runs/world_grpo")
    """Checkpoints, log, trajectories, plot and the finished policy (`policy/`)."""
    tasks: str = "world/train"
    """The task set to train on, a name or a .jsonl file."""
    task_limit: int | None = None
    """The first so many tasks of it; None: all."""
    rephrase_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the embedded world's tasks that are asked in other words (`lensgraph.rl.pocket.rephrase`)."""
    balanced: Path | None = None
    """Labels from `python -m lensgraph.rl.evaluation.balance`, a file or the name of shipped ones: train on a search-balanced sample of the labelled
    tasks only."""
    search_free_share: float = Field(default=0.32, ge=0, le=1)
    """With `balanced`: share of tasks that need no search (FVQA-train: 1,600 of 5,000, MMSearch-R1, section 3)."""
    held_out: str = "world/validation"
    """The task set of the table before and after."""
    held_out_limit: int = Field(default=60, ge=0)
    """Tasks of it; 0: no table."""
    graph: str = "search_agent"
    """The graph that is the rollout: `search_agent`, `rag`, `direct`, or `package.module:attribute` of a compiled one."""
    config: Path | None = None
    """A configuration file of the agent: tools, dialect, limits. None: the embedded ones."""
    settings: list[str] = []
    """Overrides of the agent's configuration, `key=value`."""
    steps: int = Field(default=60, ge=1)
    """Optimiser steps."""
    prompts: int = Field(default=8, ge=1)
    """Tasks that are rolled out together, over all devices."""
    generations: int = Field(default=8, ge=2)
    """Rollouts of each task: the group whose mean is the baseline."""
    updates: int = Field(default=1, ge=1)
    """Optimiser steps on each batch of rollouts, every one on its own part of them."""
    batch: int = Field(default=8, ge=1)
    """Rollouts in one forward and backward pass on one device."""
    learning_rate: float = 1e-4
    """Held after the warm-up."""
    warmup_steps: int = 3
    """Steps to reach it."""
    schedule: str = "constant_with_warmup"
    """Of the learning rate, by transformers' names."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the policy that the run began with."""
    clip: float = Field(default=0.2, gt=0)
    """PPO's clip range."""
    num_iterations: int = Field(default=1, ge=1)
    """Passes over each batch of rollouts."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling."""
    loss_type: str = "dapo"
    """TRL's name of the loss."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by the standard deviation of."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens of one turn."""
    max_tokens: int | None = Field(default=900, ge=64)
    """Tokens of one trajectory, prompt and pictures included. One that is longer ends behind the last turn that fits, without
    an answer."""
    concurrent: int = Field(default=64, ge=1)
    """Episodes at a time on each process."""
    reuse_bytes: int = Field(default=CAPACITY, ge=0)
    """Memory for what was computed for earlier turns of an episode, so that a next turn costs its new tokens only; not with
    vLLM, which keeps its own. 0: nothing is kept."""
    reward: RewardRecipe = RewardRecipe()
    """The rule and its options."""
    judge: PolicyConfig | None = None
    """A chat model for `reward.match=judge`, configured like a policy."""
    train_nodes: list[str] = []
    """Nodes whose decisions are trained, as records name them (`lensgraph.rl.rollout.deciders`); empty: all."""
    credit: Credit = "trajectory"
    """`trajectory` or `decision`: see `lensgraph.rl.grpo.trainer.GraphRollouts`."""
    freeze_vision: bool = True
    """Leave the vision tower as it is."""
    lora: dict[str, Any] | None = None
    """Options of peft's LoraConfig; None: all weights are trained."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """Sample with vLLM, in this process or from `vllm serve`."""
    sampler: Literal["auto", "thread", "process"] = "auto"
    """Without vLLM: sample in a thread beside the graphs, or in a process that shares the weights and has an interpreter of its
    own (on a CPU, without `lora`). `auto`: a process where there is a core for it."""
    trackers: list[str] = []
    """Where metrics go besides the log file: `trackio`, `tensorboard`, `wandb`, or another name that transformers knows."""
    keep_trajectories: bool = True
    """Write every training trajectory to `output/trajectories`."""
    seed: int = 0
    """Of the data order and the sampling."""
    save_every: int = Field(default=20, ge=1)
    """Steps between checkpoints to resume from."""


class RewardMemory(TrainerCallback):
    """Puts what the reward remembers into every checkpoint."""

    def __init__(self, rule: EpisodeReward) -> None:
        self.rule = rule

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Beside the checkpoint's weights, on the main process."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            partial = folder / f"{REWARD_STATE}.part"
            partial.write_text(json.dumps(self.rule.state()), "utf-8")
            partial.replace(folder / REWARD_STATE)  # it marks the checkpoint as whole, so it must be whole itself


class GraphTrainer(GraphGRPOTrainer):
    """The trainer of a recipe: also resumes checkpoints of the family whose weights transformers renames."""

    rule: EpisodeReward | None = None
    """Whose memory a checkpoint holds."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.rule is not None and (folder / REWARD_STATE).is_file():
            self.rule.restore(json.loads((folder / REWARD_STATE).read_text("utf-8")))
        if self.rollouts.store is not None:
            self.rollouts.store.forget(step_of(folder), processes=int(os.environ.get("WORLD_SIZE", "1")))
        if not (folder / "config.json").is_file():  # an adapter
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = pocket.load_network(folder).state_dict()
        (self.model if model is None else model).load_state_dict(saved)


def train(
    recipe: GRPORecipe, *, resume: bool = False, max_steps: int | None = None, dry_run: bool = False
) -> Path | None:
    """Run the recipe; the folder of the finished policy, or None after a dry run.

    Raises:
        FileNotFoundError: `start_from`, `balanced` or a task file is not there.
        ValueError: the recipe contradicts itself; there are fewer tasks than it rolls out together; `max_steps` is below 1; a
            tracker is not installed; or a resumed run would see other tasks.
    """
    console = Console(stderr=True)
    end = last_step(recipe.steps, max_steps)
    sharded.refuse_environment(os.environ)
    trackers.check(recipe.trackers)
    table.find(recipe.graph)
    config = load_config(recipe.config, recipe.settings)
    tasks = chosen_tasks(recipe)
    if len(tasks) < recipe.prompts:
        raise ValueError(
            f"prompts={recipe.prompts} tasks are rolled out together, and there are {len(tasks)} in all; "
            "lower prompts or give more tasks"
        )
    folder = Path(checkpoint(recipe.start_from))  # a model name stays as it is
    if not folder.exists() and len(folder.parts) > 2:
        raise FileNotFoundError(f"start_from={recipe.start_from}: no checkpoint there; give a folder or a model name")
    processor, network = load_processor(folder), load_policy(folder, frozen=recipe.lora is not None)
    dialect = in_own_loop(_dialect(config))
    rule = EpisodeReward.of(recipe.reward, recipe.judge)
    setup = RolloutSetup(
        graph=recipe.graph,
        config=config,
        policy=TransformersPolicy(
            model=str(folder),
            temperature=recipe.temperature,
            max_new_tokens=recipe.max_new_tokens,
            reuse_bytes=recipe.reuse_bytes,
        ).attach(network, Renderer(processor)),
        temperature=recipe.temperature,
        dialect=dialect,
        name=recipe.output.name,
        reward=rule,
        max_tokens=recipe.max_tokens,
    )
    if dry_run:
        with tempfile.TemporaryDirectory() as nowhere:
            trainer = _trainer(
                recipe.model_copy(update={"output": Path(nowhere)}), setup, network, processor, tasks, rule
            )
            try:
                dry.check(trainer, tasks, console, rule.judge)
            finally:
                trainer.close_sampler()
        return None
    last = whole_checkpoint(recipe.output, also=(REWARD_STATE,)) if resume else None
    fresh_output(recipe.output, resume=resume)
    remove_half_checkpoints(recipe.output, also=(REWARD_STATE,))
    keep_recipe(recipe.output, recipe, ORDER, resume=last is not None)
    before = _held_out(recipe, config, network, processor, "before", console, resume=resume)
    store = None
    if recipe.keep_trajectories:
        store = TrajectoryStore(recipe.output / "trajectories", writer=int(os.environ.get("RANK", "0")))
    trainer = _trainer(recipe, setup, network, processor, tasks, rule, store)
    trainer.add_callback(SummaryLog(recipe.output / "log.jsonl"))
    trainer.add_callback(StopAt(end))
    trainer.add_callback(RewardMemory(rule))
    trainer.remove_callback(PrinterCallback)  # the same figures as one unreadable line; the log file has them all
    trainer.add_callback(Shown(console))
    if last is None and store is not None:
        # a run that was killed before its first checkpoint starts over
        store.forget(0, processes=int(os.environ.get("WORLD_SIZE", "1")))
    if last is None or step_of(last) < end:
        trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    else:
        trainer._load_from_checkpoint(str(last))
    trainer.close_sampler()
    policy = recipe.output / "policy"
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if recipe.lora is not None:
        trained = trained.merge_and_unload()
    if trainer.accelerator.is_main_process:
        pocket.save(trained, processor, policy)
        after = _held_out(recipe, config, trained, processor, "after", console)
        _report(recipe, before, after, evaluate.allowed_calls(recipe.graph, dialect.limits), console)
        try:
            draw(recipe.output / "log.jsonl", recipe.output / "plot.png")
            console.print(f"plot: {recipe.output / 'plot.png'}")
        except ValueError as error:  # a judge that was down all the time; the policy is there all the same
            console.print(f"no plot: {error}")
    return policy


def _trainer(
    recipe: GRPORecipe,
    setup: RolloutSetup,
    network: Qwen2_5_VLForConditionalGeneration,
    processor: PictureProcessor,
    tasks: Sequence[Task],
    rule: EpisodeReward,
    store: TrajectoryStore | None = None,
) -> GraphTrainer:
    if recipe.freeze_vision and recipe.lora is None:
        network.model.visual.requires_grad_(False)
    if not torch.cuda.is_available():
        batch_pictures(network.model.visual)
    trainer = GraphTrainer(
        model=network,
        args=arguments(recipe, unsayable=Renderer(processor).picture_tokens()),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": task.id}]} for task in tasks]),
        processing_class=processor,
        peft_config=_lora(recipe),
        rollouts=GraphRollouts(
            tasks={task.id: task for task in tasks},
            setup=setup,
            concurrent=recipe.concurrent,
            reuse_bytes=recipe.reuse_bytes,
            sampler=_sampler(recipe, network),
            store=store,
            train_nodes=tuple(recipe.train_nodes),
            credit=recipe.credit,
            on_step=lambda made, step: rule.observe(gather_object(rule.costs([one.trajectory for one in made])), step),
        ),
    )
    trainer.rule = rule
    return trainer


def _sampler(recipe: GRPORecipe, network: Qwen2_5_VLForConditionalGeneration) -> Sampler:
    """Where the trainer samples.

    Raises:
        ValueError: the recipe wants a process that cannot be.
    """
    if recipe.vllm != "off":
        return "thread"  # which waits for the engine
    if recipe.sampler == "process" and (recipe.lora is not None or not sampler_process.can_sample(network)):
        why = "lora" if recipe.lora is not None else "the network is not a plain Qwen2.5-VL on a CPU"
        raise ValueError(f"sampler=process: not possible here ({why}); use sampler=thread, or vllm on a GPU")
    if recipe.sampler != "auto":
        return recipe.sampler
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    return "thread" if recipe.lora is not None else sampler_process.where(network, processes)


def arguments(recipe: GRPORecipe, unsayable: Sequence[int] = ()) -> GRPOConfig:
    """TRL's own configuration for a recipe; `unsayable` are tokens that the policy must not sample.

    Raises:
        ValueError: a step's rollouts do not divide into whole batches and groups on every process, or several processes
            would wait for each other at a vLLM server.
    """
    gpu, processes = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.vllm == "server" and processes > 1:
        raise ValueError(
            f"vllm=server with {processes} processes: TRL gathers every turn's prompts from all of them, and episodes differ "
            "in turns, so they would wait for each other for ever; use vllm=colocate"
        )
    rollouts, each = recipe.prompts * recipe.generations, recipe.batch * processes * recipe.updates
    if rollouts % each:
        raise ValueError(
            f"prompts={recipe.prompts} x generations={recipe.generations} = {rollouts} rollouts do not divide into "
            f"updates={recipe.updates} of batches of {recipe.batch} on {processes} processes; change one of them"
        )
    if rollouts // processes % recipe.generations:
        raise ValueError(
            f"prompts={recipe.prompts} x generations={recipe.generations} = {rollouts} rollouts on {processes} processes "
            f"are {rollouts // processes} each, which splits a group of {recipe.generations}; "
            f"make prompts a multiple of {processes}"
        )
    return GRPOConfig(
        output_dir=str(recipe.output / "checkpoints"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        gradient_accumulation_steps=rollouts // each,
        steps_per_generation=rollouts // each * recipe.updates,
        num_generations=recipe.generations,
        num_iterations=recipe.num_iterations,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        lr_scheduler_type=recipe.schedule,
        beta=recipe.beta,
        epsilon=recipe.clip,
        temperature=recipe.temperature,
        loss_type=recipe.loss_type,
        scale_rewards=recipe.scale_rewards,
        max_completion_length=recipe.max_new_tokens,
        seed=recipe.seed,
        use_cpu=not gpu,
        bf16=gpu,
        gradient_checkpointing=gpu,
        ddp_backend="gloo" if not gpu and processes > 1 else None,
        use_vllm=recipe.vllm != "off",
        **({"vllm_mode": recipe.vllm} if recipe.vllm != "off" else {}),
        # our own sampling leaves them out itself; vLLM is told so
        generation_kwargs={"logit_bias": dict.fromkeys(unsayable, -100.0)} if recipe.vllm != "off" else None,
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=1,
        report_to=list(recipe.trackers),
        disable_tqdm=True,
    )


def load_policy(folder: Path, *, frozen: bool = False) -> Qwen2_5_VLForConditionalGeneration:
    """The network, on this process's own device.

    What is trained is float32, computed in bfloat16 by autocast on a GPU: small updates to bfloat16 weights round away. A
    `frozen` base (under LoRA) is bfloat16 there.
    """
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and frozen else torch.float32
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    if not gpu:
        return network
    device = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(device)
    return network.to(f"cuda:{device}")


def chosen_tasks(recipe: GRPORecipe) -> list[Task]:
    """The tasks to train on: all of the set, or a search-balanced sample of the labelled ones.

    Raises:
        FileNotFoundError: there is no file of labels.
        ValueError: the labels leave no task of one of the two kinds.
    """
    rng = random.Random(f"rephrase/{recipe.seed}")
    tasks = [in_other_words(task, rng, recipe.rephrase_share) for task in load_tasks(recipe.tasks, recipe.task_limit)]
    if recipe.balanced is None:
        return tasks
    shipped = FOLDER / f"{recipe.balanced}.jsonl"
    labels = shipped if shipped.is_file() else recipe.balanced
    if not labels.is_file():
        raise FileNotFoundError(
            f"balanced={recipe.balanced}: no such file; make it with 'python -m lensgraph.rl.evaluation.balance'"
        )
    by_id = {task.id: task for task in tasks}
    rows = [row for row in jsonl.peek(labels) if row["task"] in by_id]
    return [by_id[identity] for identity in sample(rows, recipe.search_free_share, random.Random(recipe.seed))]


async def _dialect(config: Config) -> Dialect:
    return Backends(Context(config=config)).dialect


def _lora(recipe: GRPORecipe) -> Any:
    if recipe.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        **{"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], **recipe.lora}
    )


def _held_out(
    recipe: GRPORecipe,
    config: Config,
    network: Any,
    processor: Any,
    name: str,
    console: Console,
    *,
    resume: bool = False,
) -> list[evaluate.Record]:
    """Records on the held-out tasks, greedy; what was measured before a kill is not measured again."""
    if not recipe.held_out_limit or int(os.environ.get("RANK", "0")):
        return []
    path = recipe.output / f"held_out_{name}.jsonl"
    if path.exists() and not resume:
        path.unlink()  # of an earlier run
    tasks = load_tasks(recipe.held_out, recipe.held_out_limit)
    training = network.training
    network.eval()
    policy = TransformersPolicy(
        model=name, temperature=0.0, max_new_tokens=recipe.max_new_tokens, reuse_bytes=recipe.reuse_bytes
    )
    policy.attach(network, Renderer(processor))
    console.print(f"measuring {len(tasks)} tasks of {recipe.held_out}, {name} training")
    records = evaluate.evaluate(
        tasks, graph=recipe.graph, config=config, records=path, policy=policy, weights=weights_in(network)
    )
    network.train(training)
    return records


def _report(
    recipe: GRPORecipe,
    before: Sequence[evaluate.Record],
    after: Sequence[evaluate.Record],
    allowed: int,
    console: Console,
) -> None:
    if not before or not after:
        return
    figures = {name: evaluate.report(records, allowed) for name, records in (("before", before), ("after", after))}
    for name, measured in figures.items():
        console.print(evaluation_report.table(measured, f"{name}: {recipe.graph} on {recipe.held_out}"))
    (recipe.output / "held_out.json").write_text(json.dumps(figures, indent=1), "utf-8")
    kinds = Counter(record.stop_reason for record in after)
    console.print(f"episodes after training ended: {dict(kinds)}")
