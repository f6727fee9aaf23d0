"""Online reinforcement learning: GRPO over the compiled graph, from a recipe.

`train` loads a policy, measures it on held-out tasks, trains it and measures it again. A run can be killed at
any step and resumed: checkpoints hold the policy, the optimizer and the place in the data; trajectories are
kept as they are made.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from rich.console import Console
from transformers import PrinterCallback

from lensgraph.agent.config import load_config
from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.graphs import table
from lensgraph.rl.evaluation.balance import sample
from lensgraph.rl.evaluation.metrics import allowed_calls
from lensgraph.rl.grpo import before_weights, held_out
from lensgraph.rl.grpo import dry_run as dry
from lensgraph.rl.grpo.build_trainer import build_trainer, load_policy
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.resuming import REWARD_STATE, SaveRewardState
from lensgraph.rl.pocket.pocket_network import save
from lensgraph.rl.pocket.rephrase import in_other_words
from lensgraph.rl.recipes import FOLDER
from lensgraph.rl.rewards.episode_reward import EpisodeReward
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.run import jsonl, model_card, processes, sharded, start_from
from lensgraph.rl.run.callbacks import Alarms, StepLine
from lensgraph.rl.run.progress_plot import draw
from lensgraph.rl.run.run_folder import begin
from lensgraph.rl.tasks import Task, load_tasks


def train(
    recipe: GRPORecipe, *, resume: bool = False, max_steps: int | None = None, dry_run: bool = False
) -> Path | None:
    """Run the recipe; the folder of the trained policy, or None after a dry run.

    Raises:
        FileNotFoundError: `start_from`, `balanced` or a task file does not exist.
        FileExistsError: `output` holds another run.
        ValueError: the policy is of no family that can be trained, or its weights are not whole; the recipe contradicts
            itself; there are fewer tasks than it rolls out together;
            `max_steps` is below 1; a tracker is not installed; or a resumed run would see other tasks.
    """
    console = Console(stderr=True)
    sharded.refuse_environment(os.environ)
    table.find(recipe.graph)
    folder = start_from.find(recipe.start_from)
    families.trained(folder)
    config, tasks = load_config(recipe.config, recipe.settings), chosen_tasks(recipe)
    reward = EpisodeReward.of(recipe.reward, recipe.judge)
    dialect = before_weights.check(recipe, config, reward, folder)
    run = begin(recipe, resume=resume, max_steps=max_steps, also=(REWARD_STATE,), dry_run=dry_run)
    processor, network = load_processor(folder), load_policy(folder, frozen=recipe.lora is not None)
    policy = TransformersPolicy(
        model=str(folder),
        temperature=recipe.temperature,
        max_new_tokens=recipe.max_new_tokens,
        reuse_bytes=recipe.reuse_bytes,
    )
    setup = RolloutSetup(
        graph=recipe.graph,
        config=config,
        policy=policy.attach(network, Renderer(processor)),
        temperature=recipe.temperature,
        dialect=dialect,
        name=recipe.output.name,
        reward=reward,
        max_tokens=recipe.max_tokens,
    )
    if dry_run:
        with tempfile.TemporaryDirectory() as nowhere:
            elsewhere = recipe.model_copy(update={"output": Path(nowhere)})
            trainer = build_trainer(elsewhere, setup, network, processor, tasks, reward)
            try:
                dry.check(trainer, tasks, console)
            finally:
                trainer.close_sampler()
        return None
    if run.end < recipe.steps and recipe.held_out_limit:
        recipe = recipe.model_copy(update={"held_out_limit": 0})
        console.print(
            f"held-out tasks are not measured: --max-steps ends this start at step {run.end} of {recipe.steps}; going on "
            "with --resume to the end measures them",
            highlight=False,
        )
    before = held_out.measure(recipe, config, network, processor, "before", console, resume=resume)
    store = TrajectoryStore(recipe.output / "trajectories", writer=processes.rank())
    if run.last is None and recipe.keep_trajectories:
        store.forget(0, processes=processes.count())  # a run that was killed before its first checkpoint starts over
    trainer = build_trainer(
        recipe, setup, network, processor, tasks, reward, store if recipe.keep_trajectories else None
    )
    trainer.remove_callback(PrinterCallback)  # the same figures as one unreadable line; the log file has them all
    for callback in (*run.callbacks(), SaveRewardState(reward), StepLine(console), Alarms(console)):
        trainer.add_callback(callback)
    if recipe.eval_every and recipe.held_out_limit:
        trainer.add_callback(held_out.MeasureEvery(recipe, config, trainer, console))
    run.train(trainer)
    trainer.close_sampler()
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if recipe.lora is not None:
        trained = trained.merge_and_unload()
    if trainer.accelerator.is_main_process:
        save(trained, processor, recipe.output / "policy")
        after = held_out.measure(recipe, config, trained, processor, "after", console)
        figures = held_out.report(recipe, before, after, allowed_calls(recipe.graph, setup.dialect.limits), console)
        model_card.write(recipe.output / "policy", "grpo", recipe.start_from, recipe, figures)
        _plot(run.log, recipe.output / "plot.png", console)
    return recipe.output / "policy"


def chosen_tasks(recipe: GRPORecipe) -> list[Task]:
    """The tasks to train on: all of the set, or a search-balanced sample of the labelled ones.

    Raises:
        FileNotFoundError: the file of labels does not exist.
        ValueError: there are fewer tasks than are rolled out together, or the labels leave no task of one of
        the two kinds.
    """
    rng = random.Random(f"rephrase/{recipe.seed}")
    tasks = [in_other_words(task, rng, recipe.rephrase_share) for task in load_tasks(recipe.tasks, recipe.task_limit)]
    if recipe.balanced is not None:
        shipped = FOLDER / f"{recipe.balanced}.jsonl"
        labels = shipped if shipped.is_file() else recipe.balanced
        if not labels.is_file():
            raise FileNotFoundError(
                f"balanced={recipe.balanced}: no such file; make it with 'python -m lensgraph.rl balance'"
            )
        by_id = {task.id: task for task in tasks}
        rows = [row for row in jsonl.peek(labels) if row["task"] in by_id]
        tasks = [by_id[identity] for identity in sample(rows, recipe.search_free_share, random.Random(recipe.seed))]
    if len(tasks) < recipe.prompts:
        raise ValueError(
            f"prompts={recipe.prompts} tasks are rolled out together, and there are {len(tasks)} in all; "
            "lower prompts or give more tasks"
        )
    return tasks


def _plot(log: Path, path: Path, console: Console) -> None:
    try:
        draw(log, path)
    except ValueError as error:  # no step had a reward, because a judge was down, say; the policy is there all the same
        console.print(f"no plot: {error}")
    else:
        console.print(f"plot: {path}")
