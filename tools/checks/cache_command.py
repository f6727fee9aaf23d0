"""`python -m lensgraph.tools cache stats|clear|pictures`: what is kept, forgetting it, and how far pictures are apart.

What it says is for people, or JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sqlite3
from typing import Any

from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.checks import cache_pictures


def add_to(commands: Any) -> None:
    """The arguments of the command."""
    cache = commands.add_parser("cache", help="what is kept of the tools' answers")
    actions = cache.add_subparsers(dest="action", required=True)
    for name, help_ in (("stats", "print what is kept, tool by tool"), ("clear", "forget everything that is kept")):
        action = actions.add_parser(name, help=help_)
        action.add_argument(
            "--folder", help="the cache's folder (tools.cache.folder); default: the one below LENSGRAPH_HOME"
        )
        action.add_argument("--json", action="store_true", help="print JSON")
    pictures = actions.add_parser("pictures", help="measure which pictures of the embedded world count as nearly equal")
    pictures.add_argument("--every", type=int, default=8, help="save every n-th picture again (default 8)")
    pictures.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> tuple[int, str]:
    """Run the command: its exit code and what it says."""
    if options.action == "pictures":
        measured = cache_pictures.measure(options.every)
        said = json.dumps(dataclasses.asdict(measured)) if options.json else cache_pictures.report(measured)
        return (0 if measured.merged == 0 else 1), said
    cache = Cache(CacheSettings(folder=options.folder))
    try:
        if options.action == "clear":
            count = cache.clear()
            said = json.dumps({"forgotten": count}) if options.json else f"{count} answers forgotten in {cache.folder}"
            return 0, said
        return 0, _stats(cache, as_json=options.json)
    except (sqlite3.Error, OSError) as error:
        return 1, f"{cache.store.path} cannot be used: {error}"
    finally:
        cache.store.close()


def _stats(cache: Cache, *, as_json: bool) -> str:
    rows = cache.stats()
    if as_json:
        return json.dumps([dataclasses.asdict(row) for row in rows])
    lines = [
        f"{row.tool}: {row.entries} answers, {row.bytes:,} bytes, given out {row.hits} times, {row.saved:.4f} USD saved"
        for row in rows
    ]
    total = sum(row.bytes for row in rows)
    return "\n".join([*lines, f"{sum(row.entries for row in rows)} answers, {total:,} bytes in {cache.folder}"])
