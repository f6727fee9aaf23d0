"""Whoever is told to install something is told what works: in a clone, with an extra that exists."""

import re
import tomllib
from pathlib import Path

import pytest

FOLDERS = ("agent", "graphs", "notebooks", "rl", "tools", ".ci", ".github")
ENDINGS = {".py", ".md", ".yaml", ".yml", ".ipynb", ".toml", ".json", ""}


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[Path, str]:
    files = [path for folder in FOLDERS for path in (repository / folder).rglob("*") if path.suffix in ENDINGS]
    files += [repository / "README.md"]
    return {path.relative_to(repository): path.read_text("utf-8") for path in files if path.is_file()}


def test_every_extra_that_is_named_exists(texts: dict[Path, str], repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named: dict[str, set[Path]] = {}
    for path, text in texts.items():
        for group in re.findall(r"""(?:lensgraph|['"]\.)\[([a-z, ]+)\]""", text):
            for extra in group.split(","):
                named.setdefault(extra.strip(), set()).add(path)
    assert {name: paths for name, paths in named.items() if name not in extras} == {}
    assert {"live", "mcp", "serve", "threads", "train"} <= set(named)


def test_nobody_is_sent_to_an_index_that_does_not_have_it(texts: dict[Path, str]) -> None:
    """The distribution is installed from a clone, as the README says."""
    assert [path for path, text in texts.items() if re.search(r"pip install [^\n]*\blensgraph\[", text)] == []


def test_messages_say_where(texts: dict[Path, str]) -> None:
    """A program that says `pip install ".[extra]"` may run anywhere; it adds that this is for a clone."""
    for path, text in texts.items():
        if path.suffix == ".py":
            for line in re.findall(r"[^\n]*pip install \\?['\"]\.\[[^\n]*", text):
                assert "in a clone of LensGraph" in line, (path, line)
