"""The recipe of an online run: every value that decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from lensgraph.agent.config import PolicyConfig
from lensgraph.agent.policy.qwen.decode import CAPACITY
from lensgraph.rl.grpo.credit import Credit
from lensgraph.rl.rewards.reward_recipe import RewardRecipe
from lensgraph.rl.rollout.failures import MAX_FAILED_SHARE
from lensgraph.rl.run.base_recipes import RunRecipe


def off(value: Any) -> Any:
    """The word `off`, which YAML reads as False."""
    return "off" if value is False else value


class GRPORecipe(RunRecipe):
    """Fields of `python -m rl.train grpo`."""

    data_order: ClassVar[tuple[str, ...]] = (
        "tasks", "task_limit", "rephrase_share", "balanced", "search_free_share", "prompts", "updates", "num_iterations",
        "seed",
    )  # fmt: skip

    start_from: str = "pocket"
    """Policy to train: `pocket`, a checkpoint folder, or a model name that transformers finds."""
    output: Path = Path("runs/world_grpo")
    """Run folder: checkpoints, log, trajectories, plot and the trained policy (`policy/`)."""
    tasks: str = "world/train"
    """Task set to train on: a name or a .jsonl file."""
    task_limit: int | None = None
    """Train on the first so many tasks of the set; None: on all."""
    rephrase_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the embedded world's tasks that are asked in other words (`lensgraph.rl.pocket.rephrase`)."""
    balanced: Path | None = None
    """Labels that say which tasks need a search (a file, or the name of shipped labels). With them, training
    uses a sample of the labelled tasks that has `search_free_share`. `python -m lensgraph.rl balance` makes
    them."""
    search_free_share: float = Field(default=0.32, ge=0, le=1)
    """With `balanced`: share of tasks that need no search (FVQA-train: 1,600 of 5,000, MMSearch-R1, section 3)."""
    held_out: str = "world/validation"
    """Task set that is measured before and after training."""
    held_out_limit: int = Field(default=60, ge=0)
    """Number of its tasks that are measured; 0: nothing is measured."""
    eval_every: int = Field(default=0, ge=0)
    """Steps between two measurements of the held-out tasks during training, the best policy of which is kept in
    `output/best`; 0: only before and after."""
    graph: str = "search_agent"
    """Graph of the rollout: `search_agent`, `rag`, `direct`, or `package.module:attribute` of a compiled one."""
    config: Path | None = None
    """Configuration file of the agent: tools, dialect, limits. None: the defaults, which are the embedded
    tools."""
    settings: list[str] = []
    """Single values of the agent's configuration, `key=value`, on top of `config`."""
    steps: int = Field(default=60, ge=1)
    """Optimiser steps of the whole run."""
    prompts: int = Field(default=8, ge=1)
    """Tasks in one batch of rollouts, over all devices."""
    generations: int = Field(default=8, ge=2)
    """Rollouts of each task: the group, whose mean reward is the baseline of its advantages."""
    updates: int = Field(default=1, ge=1)
    """Optimiser steps on each batch of rollouts; each step trains on its own part of the batch."""
    batch: int = Field(default=8, ge=1)
    """Rollouts in one forward and backward pass on one device."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached at the end of the warm-up."""
    warmup_steps: int = 3
    """Steps over which the learning rate rises from zero."""
    schedule: str = "constant_with_warmup"
    """Schedule of the learning rate, by transformers' names."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the policy that the run started from."""
    clip: float = Field(default=0.2, gt=0)
    """Clip range of the importance ratio (PPO's epsilon)."""
    num_iterations: int = Field(default=1, ge=1)
    """Passes over each batch of rollouts."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of the rollouts."""
    loss_type: Literal["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """The loss, by TRL's names; it decides the normaliser."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Rewards whose standard deviation divides the advantages: those of the task's group, of the whole batch,
    or none."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Most tokens of one turn."""
    max_tokens: int | None = Field(default=900, ge=64)
    """Most tokens of one trajectory, prompt and pictures included. A longer one ends after the last turn that
    fits, without an answer. None: no limit."""
    concurrent: int = Field(default=64, ge=1)
    """Episodes that run at the same time in each process."""
    reuse_bytes: int = Field(default=CAPACITY, ge=0)
    """Memory, in bytes, for the KV cache of earlier turns, so that the next turn of an episode computes its
    new tokens only; 0: none. vLLM keeps a cache of its own and ignores this."""
    reward: RewardRecipe = RewardRecipe()
    """Reward of an episode: the rule and its options."""
    judge: PolicyConfig | None = None
    """Chat model that judges answers for `reward.match=judge`, configured like a policy."""
    train_nodes: list[str] = []
    """Nodes whose decisions are trained, by the names in the records (`lensgraph.rl.rollout.deciders`);
    empty: all."""
    refill: int = Field(default=0, ge=0)
    """Most times that tasks whose rollouts all got the same reward, and teach nothing, are replaced by others before a batch
    is trained (dynamic sampling: DAPO, arXiv 2503.14476, section 3.2); the log has the cost as `refill/episodes`."""
    credit: Credit = "trajectory"
    """Advantage of a decision: `trajectory` gives it that of its episode, `decision` that of its own choice
    (`lensgraph.rl.grpo.credit`)."""
    freeze_vision: bool = True
    """Keep the weights of the vision tower as they are."""
    lora: dict[str, Any] | None = None
    """Options of peft's LoraConfig; None: all weights are trained."""
    vllm: Annotated[Literal["off", "colocate", "server"], BeforeValidator(off)] = "off"
    """Sample with vLLM in this process (`colocate`) or from a server (`server`, at `vllm_url`)."""
    vllm_url: str = "http://127.0.0.1:8000"
    """Address of the vLLM server that `vllm=server` samples from and sends its weights to."""
    sampler: Literal["auto", "thread", "process"] = "auto"
    """Without vLLM, sample in a thread beside the graphs, or in another process that shares the weights and
    has its own interpreter (on a CPU, without `lora`). `auto`: another process if there is a core for it."""
    max_failed_share: float = Field(default=MAX_FAILED_SHARE, ge=0, le=1)
    """Largest share of a step's episodes that may fail for no fault of the policy (a tool, a judge, a picture); with
    more the run ends and says what failed. The same holds for the held-out tasks."""
    keep_trajectories: bool = True
    """Write every training trajectory to `output/trajectories`."""
    save_every: int = Field(default=20, ge=1)
    """Steps between two checkpoints to resume from."""
