"""The ways that are timed against each other do what their names say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.__main__ import main
from lensgraph.rl.bench import lockstep, throughput
from lensgraph.rl.bench.lockstep import LockstepPolicy
from lensgraph.rl.bench.rollout_ways import WAYS, RolloutRound


def test_lockstep_answers_nobody_until_every_live_episode_waits(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of one, two and three turns: the batches hold three, two and one, however long the tools take."""
    batches: list[int] = []

    def sample(self: LockstepPolicy, batch: list[Rendered], stops: Any = ()) -> list[Sampled]:
        batches.append(len(batch))
        return [Sampled([self.renderer.eos], [0.0]) for _ in batch]

    async def roll(task: str, setup: Any, number: int) -> str:
        dialogue: list[BaseMessage] = [HumanMessage(f"task {task}")]
        for turn in range(number):
            dialogue += [await steps.ainvoke(dialogue), HumanMessage("result")]
            await asyncio.sleep(0.02 * (number - turn))
        return task

    monkeypatch.setattr(LockstepPolicy, "sample", sample)
    monkeypatch.setattr(lockstep, "roll", roll)
    steps = LockstepPolicy(model="tiny").attach(policy.network, policy.renderer)
    made = asyncio.run(steps.run(["a", "b", "c"], None, [1, 2, 3], 3))  # type: ignore[list-item, arg-type]
    assert made == ["a", "b", "c"]
    assert batches == [3, 2, 1]
    batches.clear()
    asyncio.run(steps.run(["a", "b", "c"], None, [1, 2, 3], 2))  # type: ignore[list-item, arg-type]
    assert batches == [2, 1, 1, 1, 1]


def test_a_number_of_episodes_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(throughput, "RolloutBench", lambda *args: _Bench(16))
    assert main(["throughput", "--limit", "2", "--concurrent", "12"]) == 2
    assert (
        "--concurrent 12: give a multiple of --generations (8) that divides the 16 episodes" in capsys.readouterr().err
    )


class _Bench:
    sampler = "process"

    def close(self) -> None:
        """Nothing was started."""

    def __init__(self, episodes: int) -> None:
        self.tasks = list(range(episodes))

    def measure(self, way: str, bounds: tuple[float, float], concurrent: int, seed: int) -> RolloutRound:
        seconds = {"graph": 1.0, "thread": 1.25, "anew": 1.5, "lockstep": 2.0, "trl": 4.0}[way] * (1 + bounds[1])
        return RolloutRound(seconds, 16, 100 * seed, 20, {"policy": 8.0, "tools": 4.0} if way != "trl" else {})


def test_figures_are_ratios_of_the_same_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "RolloutBench", lambda *args: _Bench(16))
    out, table = tmp_path / "f.json", tmp_path / "f.md"
    options = ["--limit", "2", "--concurrent", "8", "16", "--rounds", "2", "--json", str(out), "--markdown", str(table)]
    assert main(["throughput", *options]) == 0
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert len(rows) == 2 * 2 * 5
    for row in rows:
        ratio = {"graph": 1.0, "thread": 1.25, "anew": 1.5, "lockstep": 2.0, "trl": 4.0}[row["way"]]
        assert row["slower_per_token_than_graph"] == pytest.approx([ratio] * 3)
        assert row["rounds"] == 2
    lines = table.read_text("utf-8").splitlines()
    assert len(lines) == 2 + len(rows)
    assert (
        "| 50-500 ms more | 8 | lockstep | 3.0 (3.0-3.0) | 5.3 | 50 | 2.00x (2.00-2.00) | policy 0.50, tools 0.25 |"
        in lines
    )


@pytest.mark.slow
def test_every_way_rolls_the_shipped_policy_out(tmp_path: Path) -> None:
    """One round of each with the embedded world's tools; what they take is not judged here."""
    out = tmp_path / "f.json"
    options = ["--limit", "1", "--generations", "2", "--rounds", "1", "--slow", "0.01", "0.02", "--json", str(out)]
    assert main(["throughput", *options]) == 0
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert {row["way"] for row in rows} == set(WAYS)
    assert all(row["tokens_per_second"] > 0 for row in rows)
