"""The how-to pages tell the truth: a reader who pastes every block of a page into files and a shell gets what it says.

A Python or YAML block that begins with `# name.py` is written to that file of an empty folder, a shell block is run there,
and each line of a text block stands in what the shell block before it printed. A block under `<!-- not run: reason -->` is
left out.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOMS = ("agent", "graphs", "rl", "tools")
REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(page.relative_to(REPOSITORY)) for room in ROOMS for page in (REPOSITORY / room / "howto").glob("*.md")
)
SLOW = {"rl/howto/tasks.md"}
"""Pages that build a trainer."""
LONGEST = 80  # lines of prose: a page is read in one sitting; its code may be as long again
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: str) -> list[tuple[str, str, bool]]:
    """Each fenced block of a page: its language, its text, and whether it is run."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return [(found["language"], found["text"], found["why"] is None) for found in BLOCK.finditer(text)]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `lensgraph` and `python` are the ones under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {"python": "", "lensgraph": " -P -m lensgraph"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}


@pytest.mark.e2e
@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in PAGES])
def test_a_page_does_what_it_says(page: str, tmp_path: Path, shell: dict[str, str]) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    said, ran = "", 0
    for language, text, run in blocks(page):
        if not run:
            continue
        if language in ("python", "yaml", "json"):
            name = re.match(r"# ([\w./]+)\n", text)
            assert name, f"{page}: the block does not name its file: {text[:60]!r}"
            (folder / name[1]).write_text(text, encoding="utf-8")
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=folder,
                env=shell,
                capture_output=True,
                text=True,
                timeout=170,
            )
            assert done.returncode == 0, f"{page}: {text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            said, ran = done.stdout, ran + 1
        else:
            assert language == "text", f"{page}: {language}"
            assert [line for line in text.splitlines() if line.strip() not in said] == [], said
    assert ran, "a page runs something"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_its_links_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    prose = BLOCK.sub("", text)
    assert len(prose.splitlines()) <= LONGEST
    assert [line for line in prose.splitlines() if len(line) > 100 and not line.startswith("    ")] == []
    for title in ("You end with", "## What can go wrong"):
        assert title in prose
    targets = re.findall(r"\]\(([^)#]+)\)", prose)
    assert [
        one for one in targets if not one.startswith("http") and not (REPOSITORY / page).parent.joinpath(one).exists()
    ] == []
    paths = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./]+)`", prose)
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_that_are_not_run_exist(page: str) -> None:
    """A block that needs a GPU is not executed; the shipped recipes and configurations that it names are there."""
    from lensgraph.agent import config
    from lensgraph.rl import recipes

    for language, text, run in blocks(page):
        if language == "sh" and not run:
            for name in re.findall(r"--config (\w+)(?:\s|$)", text):
                config.load_config(name, environ={})
            for name in re.findall(r"--recipe (\w+)(?:\s|$)", text):
                assert name in recipes.names()
        if language == "yaml":
            assert yaml.safe_load(text)
