"""Everything that can be found wrong with an online run before any weight is loaded.

Each part is what the run itself will use: its tools are built (an index is made, a key is looked for), its engine and its
judge are asked. What is wrong is one line, and nothing was written.
"""

from __future__ import annotations

import os
from pathlib import Path

from lensgraph.agent.config import Config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.graphs import table
from lensgraph.rl.grpo.build_trainer import arguments
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.network import memory
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rollout.deciders import check_nodes
from lensgraph.rl.rollout.episode import check_asks_nobody
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.run import engines, sharded
from lensgraph.rl.run.lora import lora_config
from lensgraph.rl.tasks import load_tasks


def check(recipe: GRPORecipe, config: Config, reward: EpisodeReward, folder: Path) -> Dialect:
    """Check a run's settings, and return its dialect.

    Args:
        recipe: The run's recipe.
        config: The agent's configuration.
        reward: The run's reward, with its judge.
        folder: Checkpoint folder or model name, which `lensgraph.rl.run.start_from.find` found.

    Raises:
        ValueError: the run cannot work; the message is one line with the fix.
    """
    check_asks_nobody(config)
    check_nodes(recipe.train_nodes, recipe.graph)
    if recipe.held_out_limit:
        load_tasks(recipe.held_out, 1)
    given = arguments(recipe)
    lora_config("", recipe.lora or {})
    if not sharded.by_deepspeed(os.environ):  # which may keep the optimizer's part elsewhere
        each = memory.OTHER if "optim" in recipe.trainer else memory.ADAM
        memory.refuse(folder, lora=recipe.lora is not None, freeze_vision=recipe.freeze_vision, each=each)
    engines.check(given)
    backends = Backends(Context(config=config))
    reward.check_dialect(backends.dialect.name)
    for kind in table.tools_of(recipe.graph):
        backends.build_tool(kind)
    if reward.judge is not None:
        in_own_loop(reward.judge.check())
    return backends.dialect
