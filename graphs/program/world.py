"""`lensgraph world card|index|verify|databases`: the embedded world."""

from __future__ import annotations

import argparse

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.failures import reported


@reported()
def card(given: argparse.Namespace) -> int:
    """Print the card, and write it to a file if one is named."""
    from lensgraph.tools.local.world.card import SAMPLE, markdown

    text = markdown(None if given.all else SAMPLE)
    print(text, end="")
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


@reported()
def index(given: argparse.Namespace) -> int:
    """Build the index, if there is none, and print its folder."""
    from lensgraph.tools.local.world.world_index import ensure

    print(ensure())
    return 0


@reported()
def verify(given: argparse.Namespace) -> int:
    """Store which lay wordings mislead the engine, and print a count for each wording."""
    from lensgraph.tools.local.world.corrections import verify

    for wording, (missed, asked) in verify().items():
        print(f"{wording:24s} {missed:4d} of {asked:4d} miss")
    return 0


@reported()
def databases(given: argparse.Namespace) -> int:
    """Print the comparison with LanceDB."""
    from lensgraph.tools.local.world.databases import report

    try:
        print(report())
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install lancedb") from error
    return 0
