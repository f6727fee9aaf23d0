"""A long thread: what it costs is measured as it is kept."""

import json
from pathlib import Path

import pytest

from lensgraph.graphs.bench import long_thread
from lensgraph.graphs.program.main import main

pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")


async def test_a_question_costs_no_more_than_the_thread_that_it_continues(tmp_path: Path) -> None:
    """Bytes grow with the number of questions before, and hold no picture."""
    asked = await long_thread.measure(12, tmp_path, quiet=True)
    assert [one.number for one in asked] == list(range(1, 13))
    assert (
        asked[-1].file
        == (tmp_path / "threads.db").stat().st_size
        == asked[0].file + sum(one.written for one in asked[1:])
    )
    assert 0 < asked[0].written < 80_000
    assert asked[-1].written < asked[0].written + 11 * 12_000
    assert 12 * 100_000 < asked[-1].pictures < 12 * 400_000


def test_the_bench_prints_its_milestones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--thread", "2", "--json"]) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)] == [1, 2]
    assert main(["bench", "--thread", "1"]) == 0
    assert "kB written" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["bench", "--thread", "0"])
    assert "--thread 0: must be 1 question or more" in capsys.readouterr().err
