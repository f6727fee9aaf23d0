"""Build the trainer that a recipe describes: network, TRL's configuration, LoRA, and the place where turns
are sampled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig

from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.grpo.generation import GraphRollouts
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.network import checkpointing
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.run import processes, trainer_options
from lensgraph.rl.run.base_recipes import trainer_arguments
from lensgraph.rl.run.lora import lora_config
from lensgraph.rl.sampler import process as sampler_process
from lensgraph.rl.sampler.process import SampledIn
from lensgraph.rl.tasks import Task


def build_trainer(
    recipe: GRPORecipe,
    setup: RolloutSetup,
    network: Any,
    processor: Any,
    tasks: Sequence[Task],
    reward: EpisodeReward,
    store: TrajectoryStore | None = None,
) -> GraphGRPOTrainer:
    """The trainer of a recipe, for a network that is loaded already; `store` keeps the training trajectories.

    Raises:
        ValueError: the recipe contradicts itself or cannot run on this machine.
    """
    if recipe.freeze_vision and recipe.lora is None:
        for part in families.eyes(network):
            part.requires_grad_(False)
    if not torch.cuda.is_available():
        for part in families.eyes(network):
            batch_pictures(part)
    trainer = GraphGRPOTrainer(
        model=network,
        args=arguments(recipe, unsayable=Renderer(processor).picture_tokens()),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": task.id}]} for task in tasks]),
        processing_class=processor,
        peft_config=lora(recipe, network),
        rollouts=GraphRollouts(
            tasks={task.id: task for task in tasks},
            setup=setup,
            concurrent=recipe.concurrent,
            reuse_bytes=recipe.reuse_bytes,
            sampler=sampled_in(recipe, network),
            store=store,
            train_nodes=tuple(recipe.train_nodes),
            credit=recipe.credit,
            refill=recipe.refill,
            seed=recipe.seed,
            max_failed_share=recipe.max_failed_share,
            on_step=lambda made, step: reward.observe(
                gather_object(reward.costs([one.trajectory for one in made])), step
            ),
        ),
    )
    trainer.episode_reward = reward
    return trainer


def arguments(recipe: GRPORecipe, unsayable: Sequence[int] = ()) -> GRPOConfig:
    """TRL's configuration for a recipe; `unsayable` are tokens that the policy must not sample.

    Raises:
        ValueError: a step's rollouts do not divide into whole batches and groups on every process, or several
            processes would wait for each other at a vLLM server.
    """
    gpu = torch.cuda.is_available()
    passes = _passes(recipe)
    vllm: dict[str, Any] = {}
    if recipe.vllm != "off":
        # our own sampling leaves unsayable tokens out itself; vLLM is told so
        bias = {"logit_bias": dict.fromkeys(unsayable, -100.0)}
        vllm = {"use_vllm": True, "vllm_mode": recipe.vllm, "generation_kwargs": bias}
        if recipe.vllm == "server":
            vllm["vllm_server_base_url"] = recipe.vllm_url
    decided = dict(
        **trainer_arguments(recipe),
        per_device_train_batch_size=recipe.batch,
        gradient_accumulation_steps=passes,
        steps_per_generation=passes * recipe.updates,
        num_generations=recipe.generations,
        num_iterations=recipe.num_iterations,
        lr_scheduler_type=recipe.schedule,
        beta=recipe.beta,
        epsilon=recipe.clip,
        temperature=recipe.temperature,
        loss_type=recipe.loss_type,
        scale_rewards=recipe.scale_rewards,
        max_completion_length=recipe.max_new_tokens,
        bf16=gpu,
        **checkpointing.argument(gpu),
        **vllm,
        logging_steps=1,
        disable_tqdm=True,
    )
    return trainer_options.build(GRPOConfig, recipe, decided)


def _passes(recipe: GRPORecipe) -> int:
    """Forward passes of one optimiser step on each process.

    Raises:
        ValueError: the rollouts do not divide, or the processes would wait for each other; see `arguments`.
    """
    count = processes.count()
    if recipe.vllm == "server" and count > 1:
        raise ValueError(
            f"vllm=server with {count} processes: TRL gathers every turn's prompts from all of them, and episodes differ "
            "in turns, so they would wait for each other for ever; use vllm=colocate"
        )
    rollouts, each = recipe.prompts * recipe.generations, recipe.batch * count * recipe.updates
    if rollouts % each:
        raise ValueError(
            f"prompts={recipe.prompts} x generations={recipe.generations} = {rollouts} rollouts do not divide into "
            f"updates={recipe.updates} of batches of {recipe.batch} on {count} processes; change one of them"
        )
    if rollouts // count % recipe.generations:
        raise ValueError(
            f"prompts={recipe.prompts} x generations={recipe.generations} = {rollouts} rollouts on {count} processes "
            f"are {rollouts // count} each, which splits a group of {recipe.generations}; "
            f"make prompts a multiple of {count}"
        )
    return rollouts // each


def sampled_in(recipe: GRPORecipe, network: Any) -> SampledIn:
    """The place where the trainer samples: a thread, or another process.

    Raises:
        ValueError: the recipe asks for a process, and this network cannot be sampled in one.
    """
    if recipe.vllm != "off":
        return "thread"  # which waits for the engine
    if recipe.sampler == "process" and (recipe.lora is not None or not sampler_process.can_sample(network)):
        why = "lora" if recipe.lora is not None else "the network is not a plain Qwen2.5-VL on a CPU"
        raise ValueError(f"sampler=process: not possible here ({why}); use sampler=thread, or vllm on a GPU")
    if recipe.sampler != "auto":
        return recipe.sampler
    return "thread" if recipe.lora is not None else sampler_process.faster_place(network, processes.here())


def lora(recipe: GRPORecipe, network: Any) -> Any:
    """peft's configuration of the adapters, on the decoder's attention unless the recipe says otherwise; None: all weights
    are trained."""
    if recipe.lora is None:
        return None
    return lora_config(families.decoder_modules(network, families.ATTENTION), recipe.lora)


def load_policy(folder: Path, *, frozen: bool = False) -> Any:
    """Load the network onto this process's own device.

    Trained weights are float32, computed in bfloat16 by autocast on a GPU: small updates of bfloat16 weights
    round away. A `frozen` base (under LoRA) is bfloat16 on a GPU.

    Raises:
        ValueError: the checkpoint is of no family, or its weights are not whole.
    """
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and frozen else torch.float32
    network = families.load_network(folder, dtype)
    if not gpu:
        return network
    device = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(device)
    return network.to(f"cuda:{device}")
