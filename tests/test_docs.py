"""The guides beside the code tell the truth: every python block runs, every link leads somewhere, every option exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

GUIDES = ["agent/README.md", "graphs/README.md"]
"""The repository's README has tests of its own."""


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def outputs(guide: str, repository: Path) -> list[str]:
    """The output of each python block: one after the other in one process, from the repository's root, as a reader would
    paste them."""
    found = python_blocks((repository / guide).read_text(encoding="utf-8"))
    code = "\n".join(
        f"exec(compile({block!r}, '{guide} block {n}', 'exec'), {{'__name__': '__main__'}}); print('--- done', {n})"
        for n, block in enumerate(found)
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=repository, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--- done") == len(found)
    return done.stdout.split("--- done")


@pytest.mark.e2e
def test_the_blocks_of_the_graphs_guide_run(repository: Path) -> None:
    pytest.importorskip("mcp", reason="needs lensgraph[mcp]")
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    said = outputs("graphs/README.md", repository)
    assert len(said) >= 7
    assert "answered" in said[1] and "Sources:" in said[1]  # the tool told the agent
    assert "| accepted" in said[2]
    assert "Nairobi | 4 messages" in said[3]
    assert said[4].count("waits: ") == 2 and "Nairobi | answered" in said[4]
    assert "answer so far: N\n" in said[5] and "Nairobi | answered | 2 sources" in said[5]  # piece by piece
    assert "| answered" in said[6]
    assert "Uzbekistan over HTTP: answered" in said[7]
    assert {"receive", "reason", "answer"} <= set(said[8].split())  # every node was told as it ended
    assert "asked another library:" in said[9]
    assert "'image_search', 'text_search', 'reason'] Nairobi" in said[10]


@pytest.mark.e2e
@pytest.mark.parametrize("guide", ["rl/README.md", "tools/README.md"])
def test_the_blocks_of_other_guides_run(guide: str, repository: Path) -> None:
    assert outputs(guide, repository)


@pytest.mark.e2e
def test_the_blocks_of_the_agents_guide_run(repository: Path) -> None:
    said = outputs("agent/README.md", repository)
    nodes = [line.split()[1] for line in said[0].splitlines()[:4]]
    assert nodes == ["reason", "crop", "image_search", "reason"]
    assert "1987 | 2 turns | 4 messages" in said[0]
    assert [line.partition("(")[0] for line in said[1].splitlines()[1:]] == ["SearchByText", "OverLimit", "Malformed"]
    assert "a lighthouse | answered" in said[2]
    assert "4 8192 3 5" in said[3]


def test_the_agents_guide_names_files_limits_and_endings_that_exist(repository: Path) -> None:
    from lensgraph.agent.dialects.table import DIALECTS
    from lensgraph.agent.limits import StopReason

    text = (repository / "agent/README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 170
    named = re.findall(r"`([\w/]+\.py|[\w/]+/)`", text)
    folders = [repository, *(repository / folder for folder in ("agent", "agent/nodes", "agent/config"))]
    assert len(named) > 25 and [name for name in named if not any((f / name).exists() for f in folders)] == []
    assert {stop.value for stop in StopReason} <= set(re.findall(r"`(\w+)`", text))
    for name, dialect in DIALECTS.items():
        row = next(line for line in lines if line.startswith(f"| `{name}`")).split("|")
        limits = dialect.default_limits
        assert row[2].strip().startswith(str(limits.image)) and str(limits.text or limits.calls) in row[2]
        assert [cell.strip() for cell in row[3:6]] == [
            str(limits.turns), str(limits.tokens or "no limit"), str(dialect.text_hits)
        ]  # fmt: skip


def test_the_agents_guide_lists_every_limit_with_its_field_and_its_default(repository: Path) -> None:
    from lensgraph.agent.config.schema import LIMITS, LimitsConfig
    from lensgraph.agent.context import Backends, Context

    text = (repository / "agent/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `limits\.(\w+)` \| (?:`(\w+)`|-) \| (\w+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(LimitsConfig.model_fields)
    assert {field for _, field, *_ in rows if field} == {name for name in Context.model_fields if "max_" in name}
    for name, field, default, held in rows:
        value = LimitsConfig.model_fields[name].default
        assert default == ("dialect" if name in LIMITS else str(value)), name
        assert held.startswith("`Limits.check`" if name in LIMITS else "`question.py`"), name
        if field:
            limited = Context(**{field: 1}, dialect="compact")
            assert getattr(Backends(limited).dialect.limits, LIMITS[name]) == 1
    for table, path in re.findall(r"`([A-Z][A-Za-z]+)`[^`(]{0,30}\(`([\w/]+\.py)`\)", text):
        home = path if path.startswith("graphs/") else f"agent/{path}"
        assert re.search(rf"^(?:class )?{table}\b", (repository / home).read_text("utf-8"), flags=re.MULTILINE), table


@pytest.mark.parametrize(("section", "fewest", "untested"), [("Security", 16, 1), ("Faults", 18, 0)])
def test_every_row_of_a_table_of_promises_names_a_test_that_exists(
    repository: Path, section: str, fewest: int, untested: int
) -> None:
    text = (repository / "graphs/README.md").read_text(encoding="utf-8")
    table = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .+ \| .+ \| (?:`([\w/]+\.py)::(\w+)`|-) \|$", table, flags=re.MULTILINE)
    assert len(rows) >= fewest and sum(not path for path, _ in rows) == untested
    for path, name in rows:
        assert not path or f"def {name}(" in (repository / "tests" / path).read_text(encoding="utf-8"), name


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


def test_the_options_of_the_graphs_guide_exist(repository: Path) -> None:
    text = (repository / "graphs/README.md").read_text(encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "lensgraph", "mcp", "--help"], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    options = {
        o for line in text.splitlines() if "-m lensgraph mcp" in line for o in re.findall(r"(?<!\w)--[a-z-]+", line)
    }
    assert options == {"--http", "--token-env", "--pictures", "--threads", "--config"}
    assert {option for option in options if option not in told.stdout} == set()


@pytest.mark.parametrize("guide", GUIDES)
def test_extras_and_links_exist(guide: str, repository: Path) -> None:
    text = (repository / guide).read_text(encoding="utf-8")
    extras = set(re.findall(r"lensgraph\[(\w+)\]", text))
    metadata = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert {extra for extra in extras if not re.search(rf"^{extra} = \[", metadata, flags=re.MULTILINE)} == set()
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")]
    assert [link for link in links if not (repository / guide).parent.joinpath(link).exists()] == []


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def pages(repository: Path) -> list[str]:
    """Every page, by its path below the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def test_prose_stays_within_a_hundred_columns(repository: Path, pages: list[str]) -> None:
    """Tables, code and comments aside."""
    wide = []
    for name in pages:
        text = re.sub(r"^```.*?^```$", "", (repository / name).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        prose = (line for line in text.splitlines() if not line.startswith(("|", "    ", "<!--")))
        wide += [f"{name}: {line}" for line in prose if len(line) > 100]
    assert wide == []


def test_every_link_between_pages_leads_somewhere(repository: Path, pages: list[str]) -> None:
    broken = []
    for name in pages:
        page = repository / name
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith(("http", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{name}: {target}")
    assert broken == []


def test_a_contributor_is_told_markers_and_commands_that_exist(repository: Path) -> None:
    text = (repository / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    metadata = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    known = {marker.partition(":")[0] for marker in metadata["tool"]["pytest"]["ini_options"]["markers"]}
    named = {
        word for given in re.findall(r'-m "([^"]+)"|-m (slow)', text) for word in re.findall(r"\w+", " ".join(given))
    }
    assert named - {"not", "and"} == {"contract", "slow"} <= known
    programs = re.findall(r"^(?:python|bash) ([\w./]+)|`(?:python|bash) ([\w./]+)`", text, flags=re.MULTILINE)
    paths = {path for found in programs for path in found if path}
    assert {".ci/types", ".ci/run", ".github/run_notebooks.py"} <= paths
    assert [path for path in paths if not (repository / path).is_file()] == []
