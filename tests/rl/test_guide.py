"""`rl/README.md` tells the truth: its code runs, its commands exist, its paths and its map are the room's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lensgraph.rl.__main__ import COMMANDS

MOST_LINES = 150


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "rl" / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_guide_is_short(guide: str) -> None:
    assert len(guide.splitlines()) <= MOST_LINES
    prose = [line for line in guide.splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(line) > 100] == []


@pytest.mark.e2e
def test_the_code_of_the_guide_runs(guide: str, repository: Path) -> None:
    (code,) = blocks(guide, "python")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=repository, timeout=170
    )
    assert done.returncode == 0, done.stderr
    asked, steps, last = done.stdout.splitlines()
    assert "| right: " in asked
    assert steps.endswith("'answer']")
    assert re.match(r"\d+ tokens, \d+ sampled \| {'total': ", last)


def test_every_path_of_the_guide_leads_somewhere(guide: str, repository: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", guide)
    assert links
    assert [link for link in links if not (repository / "rl" / link).exists()] == []
    paths = re.findall(r"`(rl/[\w./]+)`", guide)
    assert len(paths) >= 10
    assert [path for path in paths if not (repository / path).exists()] == []
    for table, path in re.findall(r"`([A-Z]+)` in `(rl/[\w./]+)`", guide):
        assert re.search(rf"^{table}\b", (repository / path).read_text("utf-8"), flags=re.MULTILINE), (table, path)


def test_the_map_is_the_rooms_folders(guide: str, repository: Path) -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", guide.split("## Map")[1], flags=re.MULTILINE))
    folders = {path.name for path in (repository / "rl").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert listed == folders


def test_every_command_of_the_guide_exists(guide: str) -> None:
    commands = [shlex.split(line, comments=True) for block in blocks(guide, "sh") for line in block.splitlines()]
    commands = [command for command in commands if command]
    assert len(commands) >= 10
    trained: dict[str, set[str]] = {}
    for command in commands:
        assert command[:2] == ["python", "-m"], command
        if command[2] == "lensgraph.rl":
            assert {command[3], " ".join(command[3:5])} & {*COMMANDS, "--help"}, command
        else:
            assert command[2] == "rl.train", command
            stage = command[3] if command[3:] and command[3] in ("sight", "sft", "grpo") else "grpo"
            trained.setdefault(stage, set()).update(part for part in command if part.startswith("--"))
    assert set(trained) == {"sight", "sft", "grpo"}
    for stage, options in trained.items():
        told = subprocess.run(
            [sys.executable, "-m", "lensgraph.rl.train", stage, "--help"], capture_output=True, text=True, timeout=120
        )
        assert told.returncode == 0, told.stderr
        assert [option for option in options if option not in told.stdout] == []
