"""Files of records and trajectories that are damaged, and places that cannot be written: one line, exit 2, nothing lost."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lensgraph.rl import __main__ as program

SCRIPTED = ["policy.kind=lensgraph.agent.testing:ScriptedPolicy", "policy.options.turns=['<answer>red</answer>']"]
EVALUATE = ["evaluate", "--tasks", "world/validation", "--limit", "3"]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert program.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def evaluate(*argv: str) -> list[str]:
    return [*EVALUATE, *argv, *SCRIPTED]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    assert program.main(evaluate("--records", str(path))) == 0
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[: len(body) // 5].replace(b"{", b"[", 1) + b"\n",
        lambda body: random.Random(0).randbytes(2000) + b"\n",
        lambda body: body.replace(b'"made_with"', b'"made_by"', 1),
        lambda body: json.dumps({"made_with": 7}).encode() + b"\n",
        lambda body: body.replace(b'"family"', b'"famile"'),
    ],
)
def test_damaged_records_are_one_line_and_stay_as_they_are(
    records: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    body = damage(records.read_bytes())
    records.write_bytes(body)
    assert str(records) in refused(capsys, *evaluate("--records", str(records)))
    assert records.read_bytes() == body


@pytest.mark.parametrize("damage", [lambda body: b"", lambda body: body[:-20]])
def test_records_that_were_cut_off_go_on(records: Path, damage: Any) -> None:
    whole = records.read_bytes()
    records.write_bytes(damage(whole))
    assert program.main(evaluate("--records", str(records))) == 0
    assert len(records.read_bytes().splitlines()) == len(whole.splitlines())


def test_places_that_cannot_be_written_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    file, below = str(tmp_path / "file"), str(tmp_path / "file" / "below")
    for option in ("--records", "--json", "--markdown"):
        assert file in refused(capsys, *evaluate(option, below))
    assert file in refused(capsys, "trajectories", "record", "--out", below, "--limit", "1", *SCRIPTED)


def test_records_on_a_full_disk_are_one_line_and_go_on(
    small_disk: Path, fill: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    records, filler = small_disk / "records.jsonl", fill(small_disk)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 4096)  # room for the first line
    given = evaluate("--records", str(records), "--limit", "20")
    assert "No space left" in refused(capsys, *given)
    kept = records.read_bytes().splitlines()
    filler.unlink()
    assert program.main(given) == 0
    assert records.read_bytes().splitlines()[: len(kept)] == kept
    assert len(records.read_bytes().splitlines()) == 21


def test_damaged_trajectories_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["trajectories", "record", "--out", str(tmp_path), "--limit", "1", *SCRIPTED]
    assert program.main(record) == 0
    (path,) = tmp_path.glob("trajectories-*.jsonl")
    whole = path.read_bytes()
    for damage in (b"\xff\x00\n", b"[]\n", b'{"version": 1}\n', whole.replace(b'"golds"', b'"silver"')):
        path.write_bytes(damage)
        for command in (
            ["show", str(tmp_path)],
            ["stats", str(tmp_path)],
            ["export", str(tmp_path), str(tmp_path / "o")],
        ):
            refused(capsys, "trajectories", *command)
        assert path.read_bytes() == damage
