"""Figures of an evaluation, and that nothing finished is run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensgraph.agent.config import load_config
from lensgraph.agent.dialects.table import build
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation import comparison, metrics, report
from lensgraph.rl.evaluation.metrics import METRICS, Metric, allowed_calls, by_group, summarise
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.experiments.seeds import SeedRuns
from lensgraph.tools.runtime.interval import interval

SCRIPTED = ["policy.kind=lensgraph.agent.testing:ScriptedPolicy", "policy.options.turns=['<answer>red</answer>']"]


def _record(**changes: object) -> Record:
    fields: dict[str, object] = {
        "task": "t", "family": "image", "knowledge": "unknown", "answer": "x", "correct": True,
        "stop_reason": "answered", "turns": 2, "malformed": 0, "well_formed": True, "image_searches": 1,
        "text_searches": 0, "seconds": {"reason": 0.5}, "price": 0.0, "trace": [],
    }  # fmt: skip
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_search_ratio_is_calls_made_over_calls_allowed() -> None:
    records = [_record(image_searches=1, text_searches=1), _record(image_searches=0, text_searches=0, correct=False)]
    figures = summarise(records)
    assert figures["search_ratio"] == 0.5
    assert figures["searching_share"] == 0.5
    assert figures["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("graph", "dialect", "limits", "allowed"),
    [
        ("search_agent", "compact", {}, 5),
        ("search_agent", "mmsearch_r1", {}, 2),  # three rounds, and the last one only answers
        ("search_agent", "deepmmsearch_r1", {}, 10),
        ("search_agent", "compact", {"turns": 3}, 2),
        ("search_agent", "compact", {"calls": 1}, 1),
        ("rag", "compact", {}, 2),
    ],
)
def test_calls_are_allowed_by_the_limits_that_ran(
    graph: str, dialect: str, limits: dict[str, int], allowed: int
) -> None:
    assert allowed_calls(graph, build(dialect, limits=limits).limits) == allowed
    records = [_record(image_searches=1, text_searches=allowed - 1), _record(image_searches=0)]
    assert by_group(records, allowed)["all"]["search_ratio"] == 0.5
    assert by_group(records, allowed)["allowed_calls"] == allowed


def test_any_compiled_graph_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    arguments = [
        "--graph",
        "lensgraph.graphs.direct:graph",
        "--family",
        "visible",
        "--limit",
        "2",
        "--json",
        str(figures),
    ]
    assert main(["evaluate", *arguments, *SCRIPTED]) == 0
    written = json.loads(figures.read_text("utf-8"))
    assert (written["graph"], written["all"]["tasks"], written["allowed_calls"]) == (
        "lensgraph.graphs.direct:graph",
        2,
        5,
    )
    capsys.readouterr()


def test_a_row_of_the_table_is_in_the_json_the_report_and_the_comparison() -> None:
    records = [_record(), _record(task="u", correct=False, image_searches=0)]
    figures = by_group(records)
    assert set(METRICS) <= set(figures["all"])
    assert [head for head in report.HEAD if head not in ("", "tasks", "95 %")] == [
        m.head for m in METRICS.values() if m.head
    ]
    by_task = {record.task: record for record in records}
    [row] = comparison.compare({"a": by_task})
    compared = {name for name, metric in METRICS.items() if metric.compared}
    assert compared <= set(row)
    assert {f"{name}_difference" for name in compared if METRICS[name].compared == "difference"} <= set(row)
    assert compared <= set(SeedRuns("a", (by_task,)).figures())
    assert all(METRICS[name].title in " ".join(comparison.HEAD) for name in compared)


def test_the_row_that_the_table_shows_as_an_example_counts_crops() -> None:
    [line] = [line for line in (metrics.__doc__ or "").splitlines() if line.startswith('    "crops"')]
    crops = eval(line.strip().removeprefix('"crops": ').removesuffix(","), {"Metric": Metric})
    trace = [{"node": "reason"}, {"node": "crop"}, {"node": "crop"}]
    assert crops.average([_record(trace=trace), _record()]) == 1.0


def test_a_metric_without_a_denominator_has_its_empty_value() -> None:
    assert summarise([_record(turns=0)])["well_formed_turns"] == 1.0
    assert summarise([_record()], 0)["search_ratio"] == 0.0


def test_malformed_turns_are_counted_over_all_turns() -> None:
    records = [_record(turns=3, malformed=1), _record(turns=1)]
    assert summarise(records)["well_formed_turns"] == 0.75


def test_families_and_knowledge_labels_have_their_own_rows() -> None:
    figures = by_group([_record(), _record(family="visible", knowledge="visible", correct=False)])
    assert figures["by_family"]["image"]["accuracy"] == 1.0
    assert figures["by_family"]["visible"]["accuracy"] == 0.0
    assert set(figures["by_knowledge"]) == {"unknown", "visible"}


def test_the_interval_holds_the_mean_and_narrows_with_more_tasks() -> None:
    few, many = interval([0.0, 1.0] * 10), interval([0.0, 1.0] * 400)
    assert few[0] < 0.5 < few[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_the_command_writes_figures_and_goes_on_from_its_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, records = tmp_path / "figures.json", tmp_path / "records.jsonl"
    arguments = ["--graph", "direct", "--family", "visible", "--json", str(figures), "--records", str(records)]
    arguments += ["--markdown", str(tmp_path / "table.md"), "--plot", str(tmp_path / "plot.png")]
    assert main(["evaluate", *arguments, "--limit", "3", *SCRIPTED]) == 0
    first = records.read_text("utf-8").splitlines()
    written = (tmp_path / "table.md").read_text("utf-8")
    assert "| visible | 3 |" in written
    assert "Waiting, seconds a question: reason" in written
    assert (tmp_path / "plot.png").stat().st_size > 1000
    with records.open("a", encoding="utf-8") as out:
        out.write('{"task": "cut off by a ki')
    assert main(["evaluate", *arguments, "--limit", "4", *SCRIPTED]) == 0
    lines = records.read_text("utf-8").splitlines()
    assert lines[:4] == first
    assert len(lines) == 5  # what it was made with, and four questions
    assert json.loads(lines[4])["task"]
    written = json.loads(figures.read_text("utf-8"))
    assert written["all"]["tasks"] == 4
    assert written["all"]["search_ratio"] == 0.0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tasks", "world/nothing"], "world/test"),
        (["policy.nothing=1"], "nothing"),
        (["--limit", "0"], "limit"),
        (["--graph", "nothing"], "use one of direct, rag, search_agent, or package.module:attribute"),
        (["--graph", "lensgraph.graphs.nothing:graph"], "No module named 'lensgraph.graphs.nothing'"),
        (["--graph", "lensgraph.graphs.rag:build"], "not a compiled graph"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_the_scripted_settings_are_settings() -> None:
    assert load_config(None, SCRIPTED).policy.options["turns"] == ["<answer>red</answer>"]
