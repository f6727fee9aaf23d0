"""A command of a program: its row, its parser, and the error of a wrong argument.

Invariant: importing this module imports no command and nothing heavy.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from lensgraph.agent.errors import UserError
from lensgraph.tools.safety.redact import without_keys

BAD_INPUT = 2
"""Exit code for bad input or settings."""

Option = tuple[tuple[str, ...], dict[str, Any]]


class WrongUsage(UserError):
    """An argument that a command cannot use; the user is pointed to its `--help`."""


class Command(NamedTuple):
    """A row of the table."""

    run: str
    """`package.module:function`; takes the parsed options, returns the exit code, may raise `UserError`."""
    summary: str
    """One sentence for `--help`."""
    options: tuple[Option, ...] = ()
    """Arguments of argparse's `add_argument`."""
    usage: str | None = None
    """Usage line behind the name, where argparse's own would be hard to read."""

    def __call__(self, given: argparse.Namespace) -> int:
        """Import the function and run it."""
        module, _, function = self.run.partition(":")
        code: int = getattr(import_module(module), function)(given)
        return code


def option(*names: str, **keywords: Any) -> Option:
    """An argument of a command, as argparse's `add_argument` takes it."""
    return names, keywords


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Name the problem and where help is."""
        self.exit(BAD_INPUT, f"{self.prog}: {without_keys(message)}; see {self.prog} --help\n")


def settings(given: argparse.Namespace) -> list[str]:
    """The single settings of a command line: the words first, then those of `--set`, which win."""
    return [*given.words, *given.set]
