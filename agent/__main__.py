"""The program: `lensgraph ask PICTURE "QUESTION"`, `lensgraph config`, `lensgraph bench`.

Invariant: what the user typed is checked before anything heavy is imported; bad input costs one line on stderr and
exit code 2, never a traceback. Exit code 0: answered. 1: no answer. 2: bad input or settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from agent.errors import UserError

ANSWERED, GAVE_UP, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Name the problem and where help is."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def ask(argv: Sequence[str]) -> int:
    """`lensgraph ask`."""
    parser = OneLineParser("lensgraph ask", description="Ask a question about a picture.")
    parser.add_argument("picture", metavar="PICTURE", help="path or http(s) address of a picture")
    parser.add_argument("question", metavar="QUESTION", nargs="?", default="", help="the question, in quotes")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    _add_settings(parser)
    given = parser.parse_intermixed_args(argv)
    if not given.question.strip():
        parser.error("no question; write it in quotes behind the picture")
    if not given.picture.lower().startswith(("http://", "https://", "data:")):
        _check_file(parser, given.picture)

    from agent import command  # imports start here, lightest first: settings and the picture are checked next

    return command.ask(given.picture, given.question, given.config, given.settings, as_json=given.json)


def config(argv: Sequence[str]) -> int:
    """`lensgraph config`."""
    parser = OneLineParser("lensgraph config", description="Print the effective configuration with its meaning.")
    _add_settings(parser)
    given = parser.parse_intermixed_args(argv)

    from agent import config as configuration

    print(configuration.render(configuration.load(given.config, given.settings)), end="")
    return ANSWERED


def bench(argv: Sequence[str]) -> int:
    """`lensgraph bench`."""
    parser = OneLineParser(
        "lensgraph bench", description="Measure the graph's own time per node, without policy and tools, or the start."
    )
    parser.add_argument("--start", action="store_true", help="whole processes instead, from start to answer")
    parser.add_argument("--runs", type=int, help="episodes to run (default 200), or processes (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    runs = given.runs if given.runs is not None else 3 if given.start else 200
    if runs < 2:
        parser.error(f"--runs {runs}: an interval needs at least 2 runs")
    if given.start:
        from agent import start_times

        return start_times.main(runs, as_json=given.json)

    from agent import overhead

    return overhead.main(runs, as_json=given.json)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML settings; `lensgraph config` shows all of them")
    parser.add_argument(
        "settings", nargs="*", metavar="key.key=value", help="single settings, such as policy.model=NAME"
    )


def _check_file(parser: argparse.ArgumentParser, name: str) -> None:
    """What can be said about a picture without reading it."""
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            parser.error(f"{name}: a folder; give the path of one picture")
        if not path.exists():
            parser.error(f"{name}: no such file; check the path")
        if path.stat().st_size == 0:
            parser.error(f"{name}: zero bytes; give a picture file")
    except (OSError, RuntimeError, ValueError) as error:  # too long, unknown ~user, or a NUL in it
        parser.error(f"{name[:80]!r}: not a usable path ({error}); check the path")


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"ask": ask, "config": config, "bench": bench}
HELP = """usage: lensgraph ask PICTURE "QUESTION" [--json] [--config FILE] [key.key=value ...]
       lensgraph config [--config FILE] [key.key=value ...]
       lensgraph bench [--start] [--runs N] [--json]

Ask a question about a picture. `lensgraph COMMAND --help` says more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return ANSWERED if argv else BAD_INPUT
    if argv[0] not in COMMANDS:
        print(f"lensgraph: unknown command {argv[0]!r}; valid: {', '.join(COMMANDS)}", file=sys.stderr)
        return BAD_INPUT
    try:
        return COMMANDS[argv[0]](argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as error:
        print(f"lensgraph {argv[0]}: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
