"""The graph's own time. `lensgraph bench` prints the figure; this holds it to what the README promises."""

import pytest

from agent import overhead


@pytest.mark.slow
def test_overhead_is_at_most_3_ms_a_node() -> None:
    figures = overhead.measure(60)
    assert figures["nodes"] == 10, "every node is visited"
    # Processor time: the clock also counts whatever else the machine is busy with.
    assert figures["cpu"] <= 3.0, figures


def test_the_bench_prints_runs_and_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert overhead.main(3, as_json=False) == 0
    said = capsys.readouterr().out
    assert "ms a node (95 % interval" in said
    assert "3 episodes of 10 node visits" in said
