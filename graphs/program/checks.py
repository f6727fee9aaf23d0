"""`lensgraph check providers|guard`: try the tools' promises. Nothing leaves this machine, and no key is needed.

Exit code 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.commands import WrongUsage

NARROWEST = 140
"""Columns of a terminal below which the cells of the table would be columns of letters."""
WIDTH = 190
"""Columns of the table on a narrow terminal, and in a file, which has no width of its own."""


def providers(given: argparse.Namespace) -> int:
    """Run providers through the contract and print a table. Their services are local servers that speak each wire format."""
    if given.json and given.markdown:
        raise WrongUsage("--json and --markdown exclude each other")

    from rich.console import Console

    from lensgraph.tools.checks.contract import cases, table
    from lensgraph.tools.checks.contract.provider import everyone

    known = list(everyone())
    chosen = [provider for provider in known if not given.only or provider.name in given.only]
    if not chosen:
        names = ", ".join(sorted({provider.name for provider in known}))
        raise UserError(f"--only {' '.join(given.only)}: no such provider; known are {names}")
    rows = cases.table(chosen)
    if given.json:
        print(table.as_json(rows))
    elif given.markdown:
        print(table.as_markdown(rows))
    else:
        console = Console()
        fits = console.is_terminal and console.width >= NARROWEST
        table.show(rows, console if fits else Console(width=WIDTH))
    return 0 if all(cell.kept for _, cells in rows for cell in cells.values()) else 1


def guard(given: argparse.Namespace) -> int:
    """Try the guard and count the cases that ended as they must."""
    from lensgraph.tools.checks import guard_check

    outcomes = asyncio.run(guard_check.run())
    print(guard_check.report(outcomes, everything=given.all))
    return 0 if all(case.passed for found in outcomes.values() for case in found) else 1
