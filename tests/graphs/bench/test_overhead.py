"""The graph's own time. `lensgraph bench` prints the figure; this holds it to what graphs/README.md promises."""

import json

import pytest

from lensgraph.graphs.bench import overhead, start_times


@pytest.mark.slow
def test_a_node_costs_at_most_four_times_an_empty_one() -> None:
    """In multiples of LangGraph's own time beside it: a shared machine is half as fast from one minute to the next."""
    found = [overhead.measure(40) for _ in range(3)]
    assert {figures["nodes"] for figures in found} == {10}, "every node is visited"
    assert min(figures["cpu"] / figures["empty"] for figures in found) <= 4.0, found


def test_the_bench_prints_runs_and_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert overhead.main(3, as_json=False) == 0
    said = capsys.readouterr().out
    assert "ms a node (95 % interval" in said
    assert "3 episodes of 10 node visits" in said
    assert "ms of LangGraph with empty nodes" in said


@pytest.mark.slow
def test_a_person_waits_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Loose, because CI shares its cores; the figures of graphs/README.md come from an idle machine."""
    assert start_times.main(2, as_json=True) == 0
    seconds = json.loads(capsys.readouterr().out)
    assert max(seconds["cold"]) < 40
    assert max(seconds["warm"]) < 15
    assert min(seconds["cold"]) > min(seconds["warm"])


def test_a_run_that_ends_badly_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(start_times, "COMMAND", (*start_times.COMMAND, "--no-such-option"))
    assert start_times.main(2, as_json=False) == 1
    assert "exit code 2" in capsys.readouterr().err
