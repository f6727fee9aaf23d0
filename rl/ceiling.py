"""`python -m rl.ceiling`: how often a task can be answered at all with these tools.

The scripted oracle, which knows the best query and recognises the answer when it sees it, runs the real graph with the
real tools. What it misses is lost in retrieval or in locating the region, not in the policy. Families that need no
search have a ceiling of 1 by construction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from agent.config import load as load_config
from rl.demonstrations import SEARCHING, demonstrate
from rl.evaluate import interval
from tools.local.world import tasks as world
from tools.local.world.tasks import WorldTask


def measure(tasks: list[WorldTask]) -> dict[str, list[bool]]:
    """Family -> whether the oracle's answer was right, task by task."""
    config = load_config()
    outcomes: dict[str, list[bool]] = {}

    async def run() -> None:
        for task in track(tasks, "oracle", console=Console(stderr=True), transient=True):
            _, is_right = await demonstrate(task, "search_agent", config)
            outcomes.setdefault(task.family, []).append(is_right)

    asyncio.run(run())
    return outcomes


def main() -> None:
    """Command line: the share per family with its interval."""
    parser = argparse.ArgumentParser(prog="python -m rl.ceiling", description=__doc__)
    parser.add_argument("--split", choices=list(world.SIZES), default="test")
    parser.add_argument("--limit", type=int, help="the first so many tasks of each searching family")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    tasks = [task for family in SEARCHING for task in world.load(args.split, family, limit=args.limit)]
    table = Table("family", "tasks", "ceiling", "95 %", title=f"retrieval ceiling on world/{args.split}")
    figures = {}
    for family, outcomes in measure(tasks).items():
        share, (low, high) = sum(outcomes) / len(outcomes), interval([float(o) for o in outcomes])
        figures[family] = {"tasks": len(outcomes), "ceiling": share, "interval": [low, high]}
        table.add_row(family, str(len(outcomes)), f"{share:.3f}", f"{low:.3f}-{high:.3f}")
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")


if __name__ == "__main__":
    main()
