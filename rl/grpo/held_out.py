"""Measure the policy on held-out tasks, before and after training, and print the two tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from lensgraph.agent.config import Config
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.evaluation.metrics import by_group
from lensgraph.rl.evaluation.provenance import weights_in
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.evaluation.report import table
from lensgraph.rl.evaluation.run_tasks import evaluate
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.run import processes
from lensgraph.rl.tasks import load_tasks


def measure(
    recipe: GRPORecipe,
    config: Config,
    network: Any,
    processor: PictureProcessor,
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


def report(
    recipe: GRPORecipe,
    before: Sequence[Record],
    after: Sequence[Record],
    allowed: int,
    console: Console,
) -> None:
    """Print both measurements and write them to `output/held_out.json`; `allowed` is the graph's limit of
    tool calls."""
    if not before or not after:
        return
    figures = {name: by_group(records, allowed) for name, records in (("before", before), ("after", after))}
    for name, measured in figures.items():
        console.print(table(measured, f"{name}: {recipe.graph} on {recipe.held_out}"))
    (recipe.output / "held_out.json").write_text(json.dumps(figures, indent=1), "utf-8")
    kinds = Counter(record.stop_reason for record in after)
    console.print(f"episodes after training ended: {dict(kinds)}")
