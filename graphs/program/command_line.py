"""A program of several commands, by its table: rows, parsers, help, and errors of one line.

Invariant: importing this module imports no command and nothing heavy; neither do `--help` and an unknown command. What the
user typed is checked before a command is imported; bad input costs one line on stderr and exit code 2, never a traceback,
and the line repeats nothing that looks like a key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lensgraph.agent.errors import UserError
from lensgraph.tools.safety.redact import shown, without_keys

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
"""Exit codes."""
HELP = ("-h", "--help")

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


def option(*names: str, **keywords: Any) -> Option:
    """An argument of a command, as argparse's `add_argument` takes it."""
    return names, keywords


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Name the problem and where help is."""
        self.exit(BAD_INPUT, f"{self.prog}: {without_keys(message)}; see {self.prog} --help\n")


class Program(NamedTuple):
    """A program and its commands."""

    name: str
    """The way it is started, such as `lensgraph`."""
    commands: Mapping[str, Command]
    """Name -> command, in the order of the help. A name of two words belongs to a group: `lensgraph cache stats`."""
    extra: str = ""
    """The extra of the installation that commands may need, besides the base."""
    reported: tuple[type[Exception], ...] = (UserError,)
    """Errors of the user's making: their text is shown, without a traceback."""
    guided: bool = False
    """Whether a command's `--help` begins with the docstring of its module, not with the summary."""
    also: str = ""
    """A further usage line of the program."""

    def run(self, argv: Sequence[str]) -> int:
        """Run the command that the arguments name; the return value is the exit code."""
        group = argv[0] if argv else ""
        if not group or group in HELP:
            print(self.overview())
            return DONE if group else BAD_INPUT
        if group in self.commands:
            return self._run(group, argv[1:])
        if not self.members(group):
            return self._unknown(self.name, group, dict.fromkeys(name.split()[0] for name in self.commands))
        name = argv[1] if len(argv) > 1 else ""
        if not name or name in HELP:
            print(self.overview(group))
            return DONE if name else BAD_INPUT
        if f"{group} {name}" in self.commands:
            return self._run(f"{group} {name}", argv[2:])
        return self._unknown(f"{self.name} {group}", name, [one.split()[1] for one in self.members(group)])

    def parser(self, name: str) -> OneLineParser:
        """The parser of a command."""
        row = self.commands[name]
        made = OneLineParser(
            f"{self.name} {name}",
            usage=row.usage and f"{self.name} {name} {row.usage}",
            description=_docstring(row.run.partition(":")[0]) if self.guided else row.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter if self.guided else argparse.HelpFormatter,
        )
        for names, keywords in row.options:
            made.add_argument(*names, **keywords)
        return made

    def members(self, group: str = "") -> dict[str, Command]:
        """The commands of a group, such as `cache`; all commands where no group is given."""
        return {name: row for name, row in self.commands.items() if not group or name.startswith(f"{group} ")}

    def overview(self, group: str = "") -> str:
        """The help text of the program, or of a group of commands."""
        rows = self.members(group)
        width = max(map(len, rows))
        return "\n".join(
            [
                f"usage: {self.name} {group or 'COMMAND'} ...",
                *([f"       {self.also}"] if self.also else []),
                *(f"       {self.name} {name} {row.usage}" for name, row in rows.items() if row.usage),
                "",
                *(f"  {name:<{width}}  {row.summary}" for name, row in rows.items()),
                "",
                f"`{self.name} COMMAND --help` prints the options of a command.",
            ]
        )

    def _unknown(self, program: str, given: str, valid: Sequence[str] | Mapping[str, None]) -> int:
        print(f"{program}: unknown command {shown((), given)}; valid: {', '.join(valid)}", file=sys.stderr)
        return BAD_INPUT

    def _run(self, name: str, argv: Sequence[str]) -> int:
        parser = self.parser(name)
        given = parser.parse_intermixed_args(argv)
        module, _, function = self.commands[name].run.partition(":")
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").partition(".")[0] == "lensgraph":
                raise
            install = f"pip install '.[{self.extra}]' in a clone of LensGraph"
            print(f"{parser.prog}: needs {error.name}: {install}", file=sys.stderr)
            return BAD_INPUT
        try:
            code: int = getattr(found, function)(given)
            return code
        except KeyboardInterrupt:
            return INTERRUPTED
        except WrongUsage as error:
            parser.error(str(error))
        except self.reported as error:
            print(f"{parser.prog}: {without_keys(str(error))}", file=sys.stderr)
            return BAD_INPUT


def settings(given: argparse.Namespace) -> list[str]:
    """The single settings of a command line: the words first, then those of `--set`, which win."""
    return [*given.words, *given.set]


def _docstring(module: str) -> str:
    """The docstring of a module, which is not imported."""
    import ast  # not needed where a command runs

    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
