"""`import lensgraph`: light, complete, typed, and at home beside an application with modules of any name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lensgraph

PUBLIC = [
    "BadInput", "Config", "ConfigError", "Context", "UserError", "as_tool", "direct", "events", "load_config", "rag",
    "search_agent",
]  # fmt: skip
QUESTION = "What is the capital of the country of the second flag from the left?"

NEIGHBOURS = {
    "tools.py": "OWN = 'tools'",
    "graphs.py": "OWN = 'graphs'",
    "agent/__init__.py": "OWN = 'agent'",
    "rl/__init__.py": "OWN = 'rl'",
    "src/agent/graph.py": "OWN = 'graph'",
}
"""Files that applications have; the last is the layout of LangGraph's own template."""
APPLICATION = """
import agent, graphs, rl, tools
import pathlib, sys
sys.path.insert(0, "src")
import lensgraph

given = {"question": sys.argv[1], "images": [pathlib.Path("flags.png")]}
result = lensgraph.search_agent.graph.invoke(given, context=lensgraph.Context(config=lensgraph.load_config()))
print(agent.OWN, graphs.OWN, rl.OWN, tools.OWN, "|", result["answer"], "|", result["stop_reason"])
"""
MISUSED = """
import lensgraph
from lensgraph import Context, load_config

turns: int = load_config().limits.turns
context = Context(max_turns="three")
lensgraph.serch_agent
lensgraph.as_tool(file="pictures")
reveal_type(lensgraph.search_agent.graph)
"""
MYPY = """
[mypy]
strict = true
[mypy-torch.*,transformers.*,tokenizers.*,scipy.*,trl.*,peft.*,datasets.*,accelerate.*]
follow_imports = skip
"""
"""The base install has none of these packages; where they are installed, mypy would read them for minutes."""


@pytest.fixture
def application(repository: Path, tmp_path: Path) -> Path:
    """The folder of an application whose modules are named like the rooms of this package."""
    for name, text in NEIGHBOURS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "application.py").write_text(APPLICATION)
    shutil.copy(repository / "notebooks/flags.png", tmp_path)
    return tmp_path


def run(*argv: str, cwd: Path, timeout: float = 170) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, cwd=cwd, timeout=timeout, env=dict(os.environ)
    )


def test_importing_it_loads_this_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import lensgraph; "
        "new = {name for name, module in sys.modules.items() if module} - before; "  # None: a name that is barred
        "print(*({name.partition('.')[0] for name in new} - set(sys.stdlib_module_names))); "
        "print(*(name for name in new if name.startswith('lensgraph')))"
    )
    done = run("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["lensgraph", "lensgraph"]), done.stderr


def test_every_public_name_exists_and_no_other() -> None:
    assert sorted(lensgraph.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(lensgraph))
    for name in PUBLIC:
        assert getattr(lensgraph, name) is not None
    for module in (lensgraph.search_agent, lensgraph.rag, lensgraph.direct):
        assert callable(module.build) and module.graph.name == module.__name__.rpartition(".")[2]
    with pytest.raises(AttributeError, match="has no attribute 'serch_agent'; it has BadInput, Config, ConfigError"):
        lensgraph.serch_agent  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.e2e
def test_an_application_with_modules_of_the_same_names_asks_a_question(application: Path) -> None:
    """In its own process and through the program, with the pocket policy and the embedded world."""
    done = run("application.py", QUESTION, cwd=application)
    assert done.returncode == 0, done.stderr
    own, answer, reason = done.stdout.strip().split(" | ")
    assert (own, answer, reason) == ("agent graphs rl tools", "Nairobi", "answered")
    asked = run("-m", "lensgraph", "ask", "flags.png", QUESTION, "--json", cwd=application)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["answer"] == "Nairobi"


def test_a_configuration_may_name_a_class_in_the_current_folder(tmp_path: Path) -> None:
    """`-P` as the installed script: the folder is not on the path by itself."""
    (tmp_path / "mine.py").write_text("from lensgraph.agent.testing import FixedText\n\nclass Mine(FixedText): pass\n")
    script = (
        "import sys; sys.argv = ['lensgraph', 'config', 'tools.text_search.use=mine:Mine']; "
        "from lensgraph.graphs.program.main import main; sys.exit(main())"
    )
    done = run("-P", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine:Mine" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mypy_accepts_a_users_program_and_finds_a_users_mistakes(repository: Path, tmp_path: Path) -> None:
    """As strict as it can be, against the installed package: its types are there and are not Any."""
    pytest.importorskip("mypy", reason="needs lensgraph[test]")
    if not (Path(lensgraph.__file__).parent / "agent").is_dir():
        pytest.skip("type checkers see the package when it is installed from a wheel; here it is read from a clone")
    shutil.copy(repository / "tests/user_program.py", tmp_path / "program.py")
    (tmp_path / "misused.py").write_text(MISUSED)
    (tmp_path / "mypy.ini").write_text(MYPY)
    options = ["--no-error-summary", "--cache-dir", "cache", "--python-executable", sys.executable]
    done = run("-m", "mypy", *options, "program.py", "misused.py", cwd=tmp_path, timeout=890)
    assert done.returncode == 1, done.stderr
    said = [line.split(":") for line in done.stdout.splitlines()]
    assert [(file, line) for file, line, kind, *_ in said if kind == " error"] == [
        ("misused.py", str(line)) for line in (5, 6, 7, 8)
    ], done.stdout
    assert "lensgraph.graphs.asking.AskGraph" in done.stdout


@pytest.mark.e2e
def test_a_users_program_runs(repository: Path, tmp_path: Path) -> None:
    """The one that mypy checks, away from the repository."""
    shutil.copy(repository / "tests/user_program.py", tmp_path / "program.py")
    done = run("program.py", QUESTION, str(repository / "notebooks/flags.png"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer, nodes = done.stdout.splitlines()
    assert answer.startswith("ask_about_picture ")
    assert nodes.split()[:2] == ["receive", "reason"] and nodes.split()[-1] == "answer"
