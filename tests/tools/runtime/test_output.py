"""Standard output that cannot take a character, is full, closed or no longer read: one line, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

ANSWER = "\u0141\u00f3d\u017a \U0001f600"
SETTINGS = {
    "policy": {
        "kind": "lensgraph.agent.policy.scripted:ScriptedPolicy",
        "options": {"turns": [f"<answer>{ANSWER}</answer>"]},
    },
    "tools": {
        "text_search": "lensgraph.agent.testing:FixedText",
        "image_search": "lensgraph.agent.testing:FixedImage",
        "locate": "lensgraph.agent.testing:FixedLocator",
    },
}


@pytest.fixture
def command(tmp_path: Path) -> str:
    """A question that is answered with letters beyond Latin-1, as a shell writes it."""
    Image.new("RGB", (40, 32), "teal").save(tmp_path / "a.png")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    return f"{sys.executable} -m lensgraph ask {tmp_path}/a.png What? --config {tmp_path}/settings.yaml"


def run(line: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, timeout=120, env={**os.environ, **environ},
        encoding=environ.get("PYTHONIOENCODING", "utf-8"),
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_the_output_cannot_encode_are_escaped(command: str, encoding: str) -> None:
    shown = run(command, PYTHONIOENCODING=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "answer  \\u0141" in shown.stdout
    printed = run(f"{command} --json", PYTHONIOENCODING=encoding)
    assert json.loads(printed.stdout)["answer"] == ANSWER


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (">/dev/full", 2, "lensgraph: standard output cannot be written (No space left on device); make room"),
        (">&-", 2, "lensgraph: standard output is closed; send it to a file or a terminal"),
        ("| true", 141, ""),
        ("--json >/dev/full", 2, "lensgraph: standard output cannot be written (No space left on device)"),
        ("--json | true", 141, ""),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    command: str, unbuffered: str, end: str, code: int, said: str
) -> None:
    done = run(f"{command} {end}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == bool(said)


def test_an_index_is_searched_into_any_output(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text(f"Tower of {ANSWER}")
    local = f"{sys.executable} -m lensgraph"
    assert run(f"{local} index {tmp_path}/docs --out {tmp_path}/index").returncode == 0
    search = f"{local} search {tmp_path}/index --text tower"
    assert "\\u0141" in run(search, PYTHONIOENCODING="ascii").stdout
    printed = run(f"{search} --json", PYTHONIOENCODING="ascii")
    assert json.loads(printed.stdout)["hits"][0]["snippet"] == f"Tower of {ANSWER}"
    full = run(f"{search} >/dev/full")
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
