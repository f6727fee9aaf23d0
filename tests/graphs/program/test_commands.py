"""`lensgraph COMMAND`: every row of the table leads to a function that takes the options and returns the exit code."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import get_type_hints

import pytest

from lensgraph.graphs.program.commands import COMMANDS
from lensgraph.graphs.program.main import main


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_function_of_the_parsed_options(name: str) -> None:
    module, _, function = COMMANDS[name].run.partition(":")
    found = getattr(import_module(module), function)
    assert len(inspect.signature(found).parameters) == 1
    assert get_type_hints(found)["return"] is int


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"lensgraph {name}" in said
    flags = [flag for names, _ in COMMANDS[name].options for flag in names if flag.startswith("--")]
    assert [flag for flag in flags if flag not in said] == []
