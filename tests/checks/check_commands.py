"""The project's checks of itself: `python tests/checks providers|guard|pictures|databases|hostile-pictures|pictures-fuzz`.

They run in a clone with `.[test]` installed. Nothing leaves this machine, and no key is needed. Exit code 1: a promise is
broken. 2: the arguments cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import io
import json
import sys

NARROWEST = 140
"""Columns of a terminal below which the cells of the table would be columns of letters."""
WIDTH = 190
"""Columns of the table on a narrow terminal, and in a file, which has no width of its own."""


def providers(given: argparse.Namespace) -> int:
    """Run providers through the contract and print a table."""
    from provider_contract import cases, table
    from provider_contract.provider import everyone
    from rich.console import Console

    known = list(everyone())
    chosen = [provider for provider in known if not given.only or provider.name in given.only]
    if not chosen:
        names = ", ".join(sorted({provider.name for provider in known}))
        print(f"checks: --only {' '.join(given.only)}: no such provider; known are {names}", file=sys.stderr)
        return 2
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
    import guard_check

    outcomes = asyncio.run(guard_check.run())
    print(guard_check.report(outcomes, everything=given.all))
    return 0 if all(case.passed for found in outcomes.values() for case in found) else 1


def pictures(given: argparse.Namespace) -> int:
    """Measure how far pictures are apart. Exit code 1: two different pictures count as equal."""
    import cache_pictures

    measured = cache_pictures.measure(given.every)
    print(json.dumps(dataclasses.asdict(measured)) if given.json else cache_pictures.report(measured))
    return 0 if measured.merged == 0 else 1


def databases(given: argparse.Namespace) -> int:
    """Print the comparison of the index's database with LanceDB."""
    import index_databases

    print(index_databases.report())
    return 0


def hostile_pictures(given: argparse.Namespace) -> int:
    """Read pictures that lie about their cost, each under limits of the system (Linux)."""
    import hostile_pictures as hostile

    outcomes = list(hostile.run())
    print(json.dumps([dataclasses.asdict(one) for one in outcomes]) if given.json else hostile.report(outcomes))
    return 0 if all(one.passed for one in outcomes) else 1


def pictures_fuzz(given: argparse.Namespace) -> int:
    """Read mutated pictures and count what is raised beside refusals."""
    import pictures_fuzz as fuzz

    found = fuzz.run(given.count, given.seed)
    print(found.report())
    return 1 if found.raw else 0


def replies_fuzz(given: argparse.Namespace) -> int:
    """Let the servers of policies and tools answer anything, and count what leaves the graph."""
    import replies_fuzz as fuzz

    found = fuzz.run(given.count, given.seed, sockets=given.sockets, only=given.only)
    print(found.report("server replies"))
    return 1 if found.raw else 0


def questions_fuzz(given: argparse.Namespace) -> int:
    """Ask the graph anything, and count what leaves it beside refusals of one line."""
    import questions_fuzz as fuzz

    found = fuzz.run(given.count, given.seed, only=given.only)
    print(found.report("questions"))
    return 1 if found.raw else 0


COUNTS = {pictures_fuzz: 5_000, replies_fuzz: 20_000, questions_fuzz: 20_000}
"""Fuzzer -> cases of a run."""


def main(argv: list[str] | None = None) -> int:
    """Run one check; the result is the exit code."""
    parser = argparse.ArgumentParser("python tests/checks", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="CHECK")
    for run in (providers, guard, pictures, databases, hostile_pictures, pictures_fuzz, replies_fuzz, questions_fuzz):
        command = commands.add_parser(run.__name__.replace("_", "-"), help=(run.__doc__ or "").splitlines()[0])
        command.set_defaults(run=run)
        if run in (providers, pictures, hostile_pictures):
            command.add_argument("--json", action="store_true", help="print JSON and nothing else")
        if run is providers:
            command.add_argument("--markdown", action="store_true", help="print a Markdown table")
            command.add_argument("--only", action="append", metavar="NAME", help="only this provider; may be repeated")
        if run is guard:
            command.add_argument("--all", action="store_true", help="print every case, not only what went wrong")
        if run is pictures:
            command.add_argument("--every", type=int, default=8, help="save every n-th picture again (default 8)")
        if run in COUNTS:
            count = COUNTS[run]
            command.add_argument("--count", type=int, default=count, help=f"cases (default {count})")
            command.add_argument("--seed", type=int, default=0, help="the same seed gives the same cases (default 0)")
        if run in (replies_fuzz, questions_fuzz):
            command.add_argument("--only", type=int, metavar="NUMBER", help="repeat one case")
        if run is replies_fuzz:
            command.add_argument("--sockets", type=float, default=0.02, help="share over real sockets (default 0.02)")
    given = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a case may hold half a character
    code: int = given.run(given)
    return code
