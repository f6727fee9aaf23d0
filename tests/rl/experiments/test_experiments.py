"""The plan of experiments runs what is missing and tells what it found."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from lensgraph.agent import policy as policies
from lensgraph.agent.config import load_config
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation import provenance
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.experiments import page, seeds
from lensgraph.rl.experiments.jobs import jobs, run_jobs
from lensgraph.rl.experiments.plan import Plan, read_plan
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.recipes import read as read_recipe
from lensgraph.rl.run import jsonl


def _record(task: int, right: bool, calls: int) -> Record:
    return Record(
        task=f"t{task}", family="image", knowledge="known" if task % 2 else "unknown", answer="x", correct=right,
        stop_reason="answered", turns=2, malformed=0, well_formed=True, image_searches=min(1, calls),
        text_searches=max(0, calls - 1), seconds={"reason": 0.5}, price=0.0, trace=[],
    )  # fmt: skip


def _write(path: Path, records: list[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return path


PLAN = {
    "limit": 4,
    "seeds": [0, 1],
    "experiments": {
        "start": {},
        "trained": {"train": {"reward.search_penalty": 0.2}},
        "fixed": {"policy_of": "trained", "graph": "rag"},
    },
    "tables": {"All": ["start", "trained", "fixed"]},
    "curve": ["start", "trained"],
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return read_plan(path)


def test_jobs_come_in_the_order_that_they_need(plan: Plan, tmp_path: Path) -> None:
    todo = [(job.name, job.seed) for job in jobs(plan, tmp_path)]
    assert todo == [("start", 0), ("trained", 0), ("trained", 1), ("fixed", 0), ("fixed", 1)]
    plan.experiments["trained"].seeds = [1]
    assert [(job.name, job.seed) for job in jobs(plan, tmp_path, ["trained"])] == [("trained", 1)]
    assert [job.seed for job in jobs(plan, tmp_path, ["fixed"], [1])] == [1]


def test_what_is_done_is_not_done_again(plan: Plan, tmp_path: Path) -> None:
    _, job, *_ = jobs(plan, tmp_path)
    train, evaluation = job.commands()
    assert train[2:4] == ["lensgraph.rl.train", "grpo"]
    assert {"reward.search_penalty=0.2", "seed=0", "held_out_limit=0"} <= set(train)
    assert f"policy.model={job.output / 'policy'}" in evaluation
    (job.output / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    assert "--resume" in job.commands()[0]
    (job.output / "policy").mkdir()
    (job.output / "policy" / "model.safetensors").touch()
    assert [command[2:4] for command in job.commands()] == [["lensgraph.rl", "evaluate"]]
    _write(job.records, [_record(n, True, 1) for n in range(4)])
    assert job.commands() == []


def test_an_experiment_may_be_measured_on_more_tasks_than_the_others(plan: Plan, tmp_path: Path) -> None:
    plan.experiments["start"].limit = 6
    start, trained, *_ = jobs(plan, tmp_path)
    _write(start.records, [_record(n, True, 1) for n in range(4)])
    (command,) = start.commands()
    assert command[command.index("--limit") + 1] == "6"
    assert trained.commands()[-1][trained.commands()[-1].index("--limit") + 1] == "4"
    _write(start.records, [_record(n, True, 1) for n in range(6)])
    assert start.commands() == []


def test_records_of_a_policy_that_changed_are_set_aside(
    plan: Plan, tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Trained again, its old evaluation is neither shown nor gone on from; one without a name is taken as it is."""
    job = next(job for job in jobs(plan, tmp_path) if job.name == "trained")
    folder = job.output / "policy"
    pocket.save(pocket.build_network(processor, PocketSize(**tiny_size)), processor, folder)
    made = provenance.made_with("search_agent", plan.tasks, load_config(None, [f"policy.model={folder}"]))
    job.records.parent.mkdir(parents=True, exist_ok=True)
    provenance.claim(job.records, made)
    for n in range(4):
        jsonl.append(job.records, asdict(_record(n, True, 1)))
    assert job.evaluated
    assert list(page.evaluated(plan, tmp_path)) == ["trained"]
    network = pocket.load_network(folder)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    pocket.save(network, processor, folder)
    assert not job.evaluated
    assert page.evaluated(plan, tmp_path) == {}
    ran = []

    def fake(command: list[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        ran.append((command[3], job.records.exists()))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fake)
    run_jobs([job], 1, Console())
    assert ran == [("evaluate", False)]
    assert job.records.with_suffix(".jsonl.old").is_file()
    _write(job.records, [_record(n, True, 1) for n in range(4)])
    assert job.evaluated


def test_a_plan_is_run_and_told(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stand-in processes: training leaves a policy, evaluation leaves records; one run fails."""

    def fake(command: list[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        if command[2] == "lensgraph.rl.train":
            output = Path(next(part for part in command if part.startswith("output=")).removeprefix("output="))
            if output.name == "1":
                return subprocess.CompletedProcess(command, 1)
            (output / "policy").mkdir(parents=True)
            (output / "policy" / "model.safetensors").touch()
        else:
            searching = 2 if command[-1] == "policy.model=pocket-cold-start" else 1
            _write(
                Path(command[command.index("--records") + 1]),
                [_record(n, n < 2 + searching, searching) for n in range(4)],
            )
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fake)
    assert run_jobs(jobs(plan, tmp_path, ["start", "trained"]), 2, Console()) == 1
    page.write(plan, tmp_path, tmp_path / "out", Console(width=300))
    told = capsys.readouterr().out
    assert "trained seed 1: failed" in told.replace("\n", " ")
    assert "| start | 1 x 4 | 1.000" in told
    assert "| trained | 1 x 4 | 0.750" in told
    assert "-1.000 (-1.000 to -1.000)" in told
    readme = tmp_path / "out" / "README.md"
    assert "| start | 1 x 4 | 1.000" in readme.read_text()
    readme.write_text(f"Before.\n{page.BEGIN}\nold\n{page.END}\nAfter.\n")
    page.write(plan, tmp_path, tmp_path / "out", Console(width=300))
    assert readme.read_text().startswith("Before.")
    assert readme.read_text().endswith("After.\n")
    assert "old" not in readme.read_text()
    with pytest.raises(ValueError, match="no lines"):
        page.refreshed("words", "tables")
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["trained"]["against"]["start"]["accuracy"][0] == -0.25
    assert (tmp_path / "out" / "curve.png").stat().st_size > 1000


def test_a_task_counts_with_its_mean_over_seeds(tmp_path: Path) -> None:
    files = [
        _write(tmp_path / str(seed), [_record(n, n % 2 == 0 or seed == 1, n % 2) for n in range(40)]) for seed in (0, 1)
    ]
    figures = seeds.read_seeds("a", files).figures()
    assert figures["accuracy"] == 0.75
    assert figures["accuracy_by_seed"] == [0.5, 1.0]
    assert figures["spread"] == pytest.approx(0.3536, abs=1e-3)
    assert (figures["searching_known_visible"], figures["searching_unknown"]) == (1.0, 0.0)
    low, high = figures["interval"]
    assert 0.65 < low < 0.75 < high < 0.85


def test_the_shipped_plan_can_be_run() -> None:
    plan = read_plan()
    assert plan.start_from == read_recipe(plan.recipe, GRPORecipe).start_from
    for name, one in plan.experiments.items():
        if one.train is not None:
            values = [f"{key}={json.dumps(value)}" for key, value in one.train.items()]
            assert isinstance(read_recipe(plan.recipe, GRPORecipe, values), GRPORecipe), name


def test_the_policy_that_the_shipped_plan_starts_from_can_be_evaluated() -> None:
    """It is named like a hub model, and nothing is asked of a hub."""
    config = load_config(None, [f"policy.model={read_plan().start_from}"])
    assert isinstance(policies.build(config.policy), TransformersPolicy)


def test_a_name_that_is_not_in_the_plan_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "run", "--only", "nothing"]) == 2
    assert "no experiment nothing" in capsys.readouterr().err
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PLAN, "curve": ["gone"]}))
    assert main(["experiments", "table", "--plan", str(tmp_path / "plan.yaml")]) == 2
    assert "no experiment gone" in capsys.readouterr().err
