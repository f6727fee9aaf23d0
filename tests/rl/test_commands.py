"""`python -m lensgraph.rl COMMAND`: one table, which costs nothing to print."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from lensgraph.rl import __main__ as front_door
from lensgraph.rl.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_under_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl", reason="some commands measure training")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: python -m lensgraph.rl {name} " in capsys.readouterr().out
    assert not hasattr(import_module(COMMANDS[name].module), "__path__")


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from lensgraph.rl.__main__ import main; code = main(['--help']); "
        "print(*[name for name in ('torch', 'pydantic', 'langchain_core') if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *said, imported = done.stdout.splitlines()
    assert imported == ""
    assert [line.split()[0] for line in said if line.startswith("  ") and " python " not in line] == list(COMMANDS)


def test_an_unknown_command_is_one_line_that_names_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalute"]) == 2
    assert capsys.readouterr().err == (
        f"python -m lensgraph.rl: unknown command 'evalute'; valid: {', '.join(COMMANDS)}\n"
    )
    assert main([]) == 2


def test_a_missing_package_is_one_line_with_the_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'trl'", name="trl")

    monkeypatch.setattr(front_door, "import_module", missing)
    assert main(["throughput"]) == 2
    said = capsys.readouterr().err
    assert said == "python -m lensgraph.rl: throughput needs trl: pip install '.[train]' in a clone of LensGraph\n"
