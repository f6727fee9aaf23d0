"""`python -m lensgraph.rl COMMAND`: one table, which costs nothing to print."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from typing import get_type_hints

import pytest

from lensgraph.graphs.program import command_line
from lensgraph.rl.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_function_of_the_parsed_options(name: str) -> None:
    pytest.importorskip("trl", reason="some commands measure training")
    module, _, function = COMMANDS[name].run.partition(":")
    found = getattr(import_module(module), function)
    assert len(inspect.signature(found).parameters) == 1
    assert get_type_hints(found)["return"] is int


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_under_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m lensgraph.rl {name} " in said
    flags = [flag for names, _ in COMMANDS[name].options for flag in names if flag.startswith("--")]
    assert [flag for flag in flags if flag not in said] == []


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from lensgraph.rl.__main__ import main; code = main(['--help']); "
        "print(*[name for name in ('torch', 'pydantic', 'langchain_core') if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *said, imported = done.stdout.splitlines()
    assert imported == ""
    listed = [line for line in said if line.startswith("  ") and " python " not in line]
    assert [line for line, name in zip(listed, COMMANDS, strict=True) if not line.startswith(f"  {name} ")] == []


def test_an_unknown_command_is_one_line_that_names_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalute"]) == 2
    valid = ", ".join(dict.fromkeys(name.split()[0] for name in COMMANDS))
    assert capsys.readouterr().err == f"python -m lensgraph.rl: unknown command 'evalute'; valid: {valid}\n"
    assert main(["trajectories", "count"]) == 2
    said = "python -m lensgraph.rl trajectories: unknown command 'count'; valid: record, show, stats, export\n"
    assert capsys.readouterr().err == said
    assert main([]) == 2


def test_a_missing_package_is_one_line_with_the_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'trl'", name="trl")

    monkeypatch.setattr(command_line, "import_module", missing)
    assert main(["throughput"]) == 2
    said = capsys.readouterr().err
    assert said == "python -m lensgraph.rl throughput: needs trl: pip install '.[train]' in a clone of LensGraph\n"


@pytest.mark.parametrize("module", ["lensgraph", "lensgraph.rl", "lensgraph.rl.train"])
def test_help_may_be_cut_off_by_its_reader(module: str) -> None:
    """`| head -1` is no error of the program."""
    program = subprocess.Popen([sys.executable, "-m", module, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    said = program.stderr.read().decode()
    program.wait(timeout=60)
    assert said == ""
    assert program.returncode in (0, 141)  # argparse itself ignores a reader that went away
