"""Records name what they were made with, and nothing else is added to them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lensgraph.agent.config import load_config
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation import provenance, run_tasks
from lensgraph.rl.evaluation.metrics import summarise
from lensgraph.rl.evaluation.record import Record, read_records
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task, load_tasks, match
from lensgraph.tools.local.search_pages import LocalTextSearch
from lensgraph.tools.results import ToolFailure

SCRIPTED = ["policy.kind=lensgraph.agent.testing:ScriptedPolicy", "policy.options.turns=['<answer>red</answer>']"]


@pytest.fixture
def weights(tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int]) -> Path:
    """A tiny checkpoint."""
    pocket.save(pocket.build_network(processor, PocketSize(**tiny_size)), processor, tmp_path / "policy")
    return tmp_path / "policy"


def _retrain(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, path, metadata={"format": "pt"})


def _run(tmp_path: Path, *changes: str, graph: str = "direct", tasks: str = "world/test") -> int:
    arguments = ["--graph", graph, "--tasks", tasks, "--family", "visible", "--limit", "2"]
    return main(["evaluate", *arguments, "--records", str(tmp_path / "r.jsonl"), *SCRIPTED, *changes])


@pytest.mark.parametrize(
    ("graph", "tasks", "changes", "says"),
    [
        ("search_agent", "world/test", [], "graph was direct, is search_agent"),
        ("direct", "world/validation", [], "tasks was world/test, is world/validation"),
        ("direct", "world/test", ["limits.seconds=9"], "limits.seconds was None, is 9.0"),
        ("direct", "world/test", ["policy.max_new_tokens=5"], "policy.max_new_tokens was None, is 5"),
        ("direct", "world/test", ["policy.model=other"], "policy was pocket, is other"),
    ],
)
def test_another_making_is_refused_in_one_line(
    tmp_path: Path, graph: str, tasks: str, changes: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path) == 0
    before = (tmp_path / "r.jsonl").read_bytes()
    capsys.readouterr()
    assert _run(tmp_path, *changes, graph=graph, tasks=tasks) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "name another file, or delete this one" in error
    assert "\n" not in error
    assert (tmp_path / "r.jsonl").read_bytes() == before
    assert _run(tmp_path) == 0


def test_the_same_name_with_other_weights_is_another_policy(weights: Path, tmp_path: Path) -> None:
    config = load_config(None, [f"policy.model={weights}"])
    provenance.claim(tmp_path / "r.jsonl", provenance.made_with("direct", "world/test", config))
    provenance.claim(tmp_path / "r.jsonl", provenance.made_with("direct", "world/test", config))
    moved = weights.rename(tmp_path / "moved")  # the same weights elsewhere are the same policy
    elsewhere = load_config(None, [f"policy.model={moved}"])
    provenance.claim(tmp_path / "r.jsonl", provenance.made_with("direct", "world/test", elsewhere))
    _retrain(moved)
    with pytest.raises(provenance.OtherRecordsError, match="policy was .*, is .*"):
        provenance.claim(tmp_path / "r.jsonl", provenance.made_with("direct", "world/test", elsewhere))


def test_another_match_rule_is_another_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(tmp_path) == 0
    monkeypatch.setattr(provenance, "MATCH_RULE", "match another")
    assert _run(tmp_path) == 2


@pytest.mark.parametrize("digest", ["dece517ebba7", "2e2af5207b94", "509e4d493a1c"])
def test_records_that_name_the_rule_by_the_digest_of_its_code_are_gone_on_from(tmp_path: Path, digest: str) -> None:
    """The digest of one rule differed between Python versions."""
    path = tmp_path / "r.jsonl"
    made = provenance.made_with("direct", "world/test", load_config())
    jsonl.append(path, {provenance.KEY: {**asdict(made), "match": f"rl.match {digest}"}})
    if match.VERSION == "1":
        provenance.claim(path, made)
    jsonl.append(tmp_path / "other.jsonl", {provenance.KEY: {**asdict(made), "match": "rl.match 123456789abc"}})
    with pytest.raises(
        provenance.OtherRecordsError, match=f"match was rl.match 123456789abc, is match {match.VERSION}"
    ):
        provenance.claim(tmp_path / "other.jsonl", made)


def test_a_live_policy_is_named_by_its_weights(processor: PictureProcessor, tiny_size: dict[str, int]) -> None:
    network = pocket.build_network(processor, PocketSize(**tiny_size))
    digest = provenance.weights_in(network)
    assert provenance.weights_in(network) == digest
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    assert provenance.weights_in(network) != digest


def test_a_task_that_is_asked_otherwise_is_refused(tmp_path: Path) -> None:
    config = load_config(None, SCRIPTED)
    tasks = load_tasks("world/test", 1, family="visible")
    run_tasks.evaluate(tasks, graph="direct", config=config, records=tmp_path / "r.jsonl")
    other = [replace(tasks[0], question="What else?")]
    with pytest.raises(provenance.OtherRecordsError, match="another question"):
        run_tasks.evaluate(other, graph="direct", config=config, records=tmp_path / "r.jsonl")


def test_records_of_earlier_versions_are_read_but_not_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path) == 0
    path = tmp_path / "r.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()][1:]
    old = [{key: value for key, value in row.items() if key not in ("error", "asked")} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in old))
    assert provenance.header(path) is None
    assert len(read_records(path)) == 2
    assert _run(tmp_path) == 2
    assert "do not say what they were made with" in capsys.readouterr().err


def test_no_secret_reaches_the_file(tmp_path: Path) -> None:
    config = load_config(None, ["tools.text_search={use: local}"])
    spec = config.tools.text_search.model_copy(update={"api_key": "hush"})
    config = config.model_copy(update={"tools": config.tools.model_copy(update={"text_search": spec})})
    provenance.claim(tmp_path / "r.jsonl", provenance.made_with("direct", "world/test", config))
    text = (tmp_path / "r.jsonl").read_text()
    assert "tools.text_search.use" in text
    assert "hush" not in text


def test_a_run_that_raises_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts as wrong, is shown, and is tried again by the next run."""
    ask = run_tasks.ask
    broken = load_tasks("world/test", 2, family="visible")[0].id

    async def breaks(task: Task, *rest: Any) -> Record:
        if task.id == broken:
            raise RuntimeError("the picture\nis gone")
        return await ask(task, *rest)

    monkeypatch.setattr(run_tasks, "ask", breaks)
    assert _run(tmp_path, "--max-failed-share", "0.5", f"policy.options.turns={['<answer>x</answer>']}") == 0
    told = capsys.readouterr()
    assert "failed runs: 1 of 2, counted as wrong; the first: RuntimeError: the picture is gone" in told.err
    assert "failed runs: 1 of 2" in " ".join(told.out.split())
    rows = {row["task"]: row for row in provenance.rows(tmp_path / "r.jsonl")}
    assert rows[broken]["error"] == "RuntimeError: the picture is gone"
    assert not rows[broken]["correct"]
    assert summarise([Record(**row) for row in rows.values()])["failed_runs"] == 1
    monkeypatch.setattr(run_tasks, "ask", ask)
    assert _run(tmp_path, f"policy.options.turns={['<answer>x</answer>']}") == 0
    assert len(provenance.rows(tmp_path / "r.jsonl")) == 3
    assert read_records(tmp_path / "r.jsonl")[broken].error is None


def test_an_evaluation_in_which_every_run_failed_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def breaks(*rest: Any) -> Record:
        raise RuntimeError("no policy")

    monkeypatch.setattr(run_tasks, "ask", breaks)
    assert _run(tmp_path, "--max-failed-share", "1") == 1
    assert _run(tmp_path) == 2
    assert "2 of 2 episodes failed: run x2 (RuntimeError: no policy)" in capsys.readouterr().err


def test_a_tool_that_is_down_ends_an_evaluation_and_its_questions_are_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = f"policy.options.turns={['<text_search>capital</text_search>', '<answer>x</answer>']}"

    def down(*rest: Any) -> Any:
        raise ToolFailure("unavailable", "the index is gone")

    with monkeypatch.context() as patched:
        patched.setattr(LocalTextSearch, "_search", down)
        assert _run(tmp_path, search, graph="search_agent") == 2
    assert "2 of 2 episodes failed: text_search/unavailable x2 (the index is gone)" in capsys.readouterr().err
    assert _run(tmp_path, search, graph="search_agent") == 0
    assert [record.text_searches for record in read_records(tmp_path / "r.jsonl").values()] == [1, 1]


def test_a_header_is_plain(tmp_path: Path) -> None:
    made = provenance.made_with("rag", "world/test", load_config())
    provenance.claim(tmp_path / "r.jsonl", made)
    assert provenance.header(tmp_path / "r.jsonl") == made
    assert asdict(made)["weights"]
    assert not any(key.startswith(("tools.cache", "policy.model")) for key in made.config)
