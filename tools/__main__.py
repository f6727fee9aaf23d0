"""`python -m tools providers`: what every provider does when its service answers, is late, busy, broken, wrong or empty.

The services are servers on this machine that speak each provider's wire format; nothing leaves it, and no key is needed.
Exits with 1 if a provider does not keep to the contract.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from tools.contract import cases, table
from tools.contract.provider import everyone


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    providers = commands.add_parser("providers", help="run every provider through the contract and print a table")
    providers.add_argument(
        "--only", action="append", metavar="NAME", help="only providers of this name; may be repeated"
    )
    form = providers.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
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
