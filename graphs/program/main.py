"""The program `lensgraph`: it finds the command, parses its options, runs it, and turns errors into one line.

Invariant: what the user typed is checked before anything heavy is imported; bad input costs one line on stderr and
exit code 2, never a traceback, and the line repeats nothing that looks like a key. Exit code 0: answered. 1: no answer. 2:
bad input or settings, or an output that cannot be written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program import commands
from lensgraph.graphs.program.command_line import BAD_INPUT, WrongUsage
from lensgraph.graphs.program.commands import COMMANDS
from lensgraph.tools.runtime import loops, output
from lensgraph.tools.safety.redact import shown, without_keys

DONE, INTERRUPTED = 0, 130
HELP = ("-h", "--help")
VERSION = ("-V", "--version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if argv is None:
        sys.path.append("")  # a class of a configuration may lie in the current folder, as for `python -m`
    code = output.guarded("lensgraph", lambda: _dispatch(given))
    return loops.leave(code) if argv is None else code  # with arguments it is called by another program


def _dispatch(argv: Sequence[str]) -> int:
    if not argv or argv[0] in HELP:
        print(commands.overview())
        return DONE if argv else BAD_INPUT
    if argv[0] in VERSION:
        from importlib import metadata  # slow to import, and needed here only

        print(metadata.version("lensgraph"))
        return DONE
    if argv[0] in COMMANDS:
        return _run(argv[0], argv[1:])
    if not commands.members(argv[0]):
        names = dict.fromkeys(name.split()[0] for name in COMMANDS)
        print(f"lensgraph: unknown command {shown((), argv[0])}; valid: {', '.join(names)}", file=sys.stderr)
        return BAD_INPUT
    group, *rest = argv
    if not rest or rest[0] in HELP:
        print(commands.overview(group))
        return DONE if rest else BAD_INPUT
    if f"{group} {rest[0]}" in COMMANDS:
        return _run(f"{group} {rest[0]}", rest[1:])
    valid = ", ".join(name.split()[1] for name in commands.members(group))
    print(f"lensgraph {group}: unknown command {shown((), rest[0])}; valid: {valid}", file=sys.stderr)
    return BAD_INPUT


def _run(name: str, argv: Sequence[str]) -> int:
    parser = commands.parser(name)
    given = parser.parse_intermixed_args(argv)
    try:
        return COMMANDS[name](given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except WrongUsage as error:
        parser.error(str(error))
    except UserError as error:
        print(f"{parser.prog}: {without_keys(str(error))}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
