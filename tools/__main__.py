"""What tools share, tried and shown from the command line; nothing leaves this machine, and no key is needed.

`python -m lensgraph.tools providers`: what every provider does when its service answers, is late, busy, broken, wrong or empty. The
services are servers on this machine that speak each provider's wire format.
`python -m lensgraph.tools guard`: hostile addresses and hosts that must be refused, and honest ones that must not.
`python -m lensgraph.tools cache`: what is kept of the tools' answers.

Exits with 1 if something is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from rich.console import Console

from lensgraph.tools.checks import cache_command, guard_check
from lensgraph.tools.checks.contract import cases, table
from lensgraph.tools.checks.contract.provider import everyone


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lensgraph.tools", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    providers = commands.add_parser("providers", help="run every provider through the contract and print a table")
    providers.add_argument(
        "--only", action="append", metavar="NAME", help="only providers of this name; may be repeated"
    )
    form = providers.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    guard = commands.add_parser("guard", help="try the guard and print how many cases ended as they must")
    guard.add_argument("--all", action="store_true", help="print every case, not only what went wrong")
    cache_command.add_to(commands)
    options = parser.parse_args(arguments)
    if options.command == "guard":
        outcomes = asyncio.run(guard_check.run())
        print(guard_check.report(outcomes, everything=options.all))
        return 0 if all(case.passed for cases_ in outcomes.values() for case in cases_) else 1
    if options.command == "cache":
        code, said = cache_command.run(options)
        print(said)
        return code
    return _providers(options)


def _providers(options: argparse.Namespace) -> int:
    known = list(everyone())
    chosen = [provider for provider in known if not options.only or provider.name in options.only]
    if not chosen:
        names = ", ".join(sorted({provider.name for provider in known}))
        print(f"--only {' '.join(options.only)}: no such provider; known are {names}.", file=sys.stderr)
        return 2
    rows = cases.table(chosen)
    if options.json:
        print(table.as_json(rows))
    elif options.markdown:
        print(table.as_markdown(rows))
    else:
        console = Console()
        # Narrower than this, the cells become columns of letters; a file has no width of its own.
        table.show(rows, console if console.is_terminal and console.width >= 140 else Console(width=190))
    return 0 if all(cell.kept for _, cells in rows for cell in cells.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
