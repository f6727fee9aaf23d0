"""The guides beside the code tell the truth: every python block runs, every link leads somewhere, every option exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = ["graphs/README.md"]
"""The repository's README has tests of its own."""


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.e2e
@pytest.mark.parametrize("guide", GUIDES)
def test_the_python_blocks_run(guide: str, repository: Path) -> None:
    """One after the other in one process, from the repository's root, as a reader would paste them."""
    pytest.importorskip("mcp", reason="needs lensgraph[mcp]")
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    found = python_blocks((repository / guide).read_text(encoding="utf-8"))
    assert len(found) >= 6
    code = "\n".join(
        f"exec(compile({block!r}, '{guide} block {n}', 'exec'), {{'__name__': '__main__'}}); print('--- done', {n})"
        for n, block in enumerate(found)
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=repository, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--- done") == len(found)
    said = done.stdout.split("--- done")
    assert "answered" in said[1] and "Sources:" in said[1]  # the tool told the agent
    assert "| accepted" in said[2]
    assert "Nairobi | 4 messages" in said[3]
    assert "| answered" in said[4]
    assert "Uzbekistan over HTTP: answered" in said[5]
    assert {"receive", "reason", "answer"} <= set(said[6].split())  # every node was told as it ended
    assert "asked another library:" in said[7]


@pytest.mark.parametrize("guide", GUIDES)
def test_the_blocks_import_names_that_exist(guide: str, repository: Path) -> None:
    """Cheap, so that an API change is told by the default suite."""
    text = (repository / guide).read_text(encoding="utf-8")
    imported = re.findall(r"^from (lensgraph[\w.]*) import (.+)$", text, flags=re.MULTILINE)
    assert len(imported) >= 5
    for module, names in imported:
        found = __import__(module, fromlist=["x"])
        for name in names.split(", "):
            assert hasattr(found, name) or __import__(f"{module}.{name}", fromlist=["x"])


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_and_settings_exist(guide: str, repository: Path) -> None:
    text = (repository / guide).read_text(encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "lensgraph", "mcp", "--help"], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    options = {
        o for line in text.splitlines() if "-m lensgraph mcp" in line for o in re.findall(r"(?<!\w)--[a-z]+", line)
    }
    assert options == {"--http", "--files", "--threads", "--config"}
    assert {option for option in options if option not in told.stdout} == set()
    extras = set(re.findall(r"lensgraph\[(\w+)\]", text))
    metadata = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert {extra for extra in extras if not re.search(rf"^{extra} = \[", metadata, flags=re.MULTILINE)} == set()
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")]
    assert [link for link in links if not (repository / guide).parent.joinpath(link).exists()] == []
