"""Measure the policy on held-out tasks, before, during and after training; keep the best one, and print the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from lensgraph.agent.config import Config
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.evaluation.metrics import by_group
from lensgraph.rl.evaluation.provenance import weights_in
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.evaluation.report import markdown, table
from lensgraph.rl.evaluation.run_tasks import evaluate
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.pocket.pocket_network import save
from lensgraph.rl.run import jsonl, processes
from lensgraph.rl.tasks import load_tasks
from lensgraph.tools.runtime.whole_files import write_whole

BEST = "best"
"""In the run folder: the policy that was best on the held-out tasks during training."""
FIGURES = "held_out.json"
"""In that folder: its step and figures."""


def measure(
    recipe: GRPORecipe,
    config: Config,
    network: Any,
    processor: Any,
    name: str,
    console: Console,
    *,
    resume: bool = False,
) -> list[Record]:
    """Records of greedy answers to the recipe's held-out tasks; process 0 measures, the others get none.

    They are kept in `output/held_out_NAME.jsonl`. With `resume`, tasks that were measured before a kill are
    not measured again.
    """
    if not recipe.held_out_limit or processes.rank():
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
    console.print(f"measuring {len(tasks)} tasks of {recipe.held_out}, {name} training (held_out_limit=0: none)")
    records = evaluate(
        tasks,
        graph=recipe.graph,
        config=config,
        records=path,
        policy=policy,
        weights=weights_in(network),
        max_failed_share=recipe.max_failed_share,
    )
    network.train(training)
    return records


class MeasureEvery(TrainerCallback):
    """Measures the policy every `eval_every` steps, and keeps the best one in `output/best/`.

    The best has the highest accuracy, and with equal ones fewer searches. Its figures lie beside it, so that a resumed run
    goes on from them.
    """

    def __init__(self, recipe: GRPORecipe, config: Config, trainer: Any, console: Console) -> None:
        self.recipe, self.config, self.trainer, self.console = recipe, config, trainer, console

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, if it is time to; process 0 does, and the others wait."""
        step = state.global_step
        if step % self.recipe.eval_every or step >= state.max_steps:  # the last is measured as `after`
            return
        network = self.trainer.accelerator.unwrap_model(self.trainer.model)
        plain = network.get_base_model() if hasattr(network, "get_base_model") else network
        processor = self.trainer.processing_class
        records = measure(self.recipe, self.config, plain, processor, f"step_{step}", self.console)
        if records:
            self.keep(step, records, plain)
        self.trainer.accelerator.wait_for_everyone()

    def keep(self, step: int, records: Sequence[Record], network: Any) -> None:
        """Log the figures of a step, and keep its policy if it is the best so far."""
        accuracy = sum(record.correct for record in records) / len(records)
        searches = sum(record.searches for record in records) / len(records)
        figures = {"step": step, "held_out/accuracy": accuracy, "held_out/searches": searches}
        jsonl.append(self.recipe.output / "log.jsonl", figures)
        path = self.recipe.output / BEST / FIGURES
        best = json.loads(path.read_text("utf-8")) if path.is_file() else None
        better = best is None or (accuracy, -searches) > (best["held_out/accuracy"], -best["held_out/searches"])
        self.console.print(
            f"step {step}: held-out accuracy {accuracy:.3f}, searches {searches:.2f}"
            + (f"; the best so far, kept in {path.parent}" if better else f"; the best is step {best['step']}"),  # type: ignore[index]
            highlight=False,
        )
        if better:
            save(network, self.trainer.processing_class, path.parent)
            write_whole(path, json.dumps(figures).encode())


def report(
    recipe: GRPORecipe,
    before: Sequence[Record],
    after: Sequence[Record],
    allowed: int,
    console: Console,
) -> list[str]:
    """Print both measurements, write them to `output/held_out.json`, and return them in Markdown; `allowed` is the graph's
    limit of tool calls."""
    if not before or not after:
        return []
    figures = {name: by_group(records, allowed) for name, records in (("before", before), ("after", after))}
    for name, measured in figures.items():
        console.print(table(measured, f"{name}: {recipe.graph} on {recipe.held_out}"))
    (recipe.output / "held_out.json").write_text(json.dumps(figures, indent=1), "utf-8")
    kinds = Counter(record.stop_reason for record in after)
    console.print(f"episodes after training ended: {dict(kinds)}")
    title = f"training: {recipe.graph} on {recipe.held_out}, greedy"
    return [markdown(measured, f"{name.capitalize()} {title}") for name, measured in figures.items()]
