"""The shipped policy on held-out tasks, and its recipe from the demonstrations on. Minutes, so CI runs them apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensgraph.agent.config import load_config
from lensgraph.rl.evaluation.metrics import by_group
from lensgraph.rl.evaluation.run_tasks import batched, evaluate
from lensgraph.rl.pocket import demonstrations
from lensgraph.rl.supervised import train_supervised as sft
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.rl.tasks import load_tasks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_shipped_policy_answers_unseen_questions() -> None:
    """Bounds lie under the intervals of the published table; a broken embedder, locator or weight file misses them."""
    records = evaluate(load_tasks("world/test", 200), graph="search_agent", config=batched(load_config()))
    figures = by_group(records)
    assert figures["all"]["accuracy"] > 0.6
    assert figures["all"]["well_formed_turns"] > 0.95
    assert all(family["accuracy"] > 0.35 for family in figures["by_family"].values())


def test_without_searching_it_knows_nothing_about_unseen_entities() -> None:
    unknown = [task for task in load_tasks("world/test", 160) if task.knowledge == "unknown"]
    records = evaluate(unknown, graph="direct", config=batched(load_config()))
    assert by_group(records)["all"]["accuracy"] < 0.15


def test_a_policy_is_made_from_nothing_by_the_graph_itself(tmp_path: Path) -> None:
    """Demonstrations of the real graph, then a cold start that learns from them."""
    path = tmp_path / "demonstrations.jsonl"
    counts = {
        "search_agent": {"visible": 8, "image": 8, "image_text": 12, "crop_text": 8, "correction": 6},
        "rag": {"image_text": 4},
    }
    demonstrations.make(path, counts)
    tally = demonstrations.summary(path)
    assert sum(total for _, total in tally.values()) == 46
    assert sum(right for right, _ in tally.values()) > 30
    recipe = SFTRecipe(
        demonstrations=path, output=tmp_path / "run", steps=30, batch=4, accumulate=2, warmup_steps=5, decay_steps=10,
        log_every=5, save_every=100,
    )  # fmt: skip
    policy = sft.train(recipe)
    losses = [
        row["loss"]
        for row in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
        if "loss" in row
    ]
    assert losses[-1] < 0.5 * losses[0]
    config = load_config(overrides=[f"policy.model={policy}", "policy.kind=transformers"])
    records = evaluate(load_tasks("world/validation", 8), graph="search_agent", config=config)
    assert len(records) == 8
