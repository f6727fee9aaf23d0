"""The program `lensgraph`. Exit code 0: answered. 1: no answer. 2: bad input or settings, or an output that cannot be written."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lensgraph.graphs.program.command_line import DONE, Program
from lensgraph.graphs.program.commands import COMMANDS
from lensgraph.tools.runtime import loops, output

VERSION = ("-V", "--version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if argv is None:
        sys.path.append("")  # a class of a configuration may lie in the current folder, as for `python -m`
    code = output.guarded("lensgraph", lambda: _run(given))
    return loops.leave(code) if argv is None else code  # with arguments it is called by another program


def _run(argv: Sequence[str]) -> int:
    if argv and argv[0] in VERSION:
        from importlib import metadata  # slow to import, and needed here only

        print(metadata.version("lensgraph"))
        return DONE
    return Program("lensgraph", COMMANDS).run(argv)


if __name__ == "__main__":
    sys.exit(main())
