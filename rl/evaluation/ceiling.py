"""`ceiling`: the best accuracy that the tools allow, and the fewest searches for it.

    python -m lensgraph.rl ceiling                                           searching families
    python -m lensgraph.rl ceiling --first 300 --frugal                      fewest searches of an evaluation's tasks
    python -m lensgraph.rl ceiling --first 300 --frugal --accuracy 0.5 0.7   and at a lower accuracy

The scripted oracle, which knows the best query and recognises the answer when it sees it, runs the real graph
with the real tools. A question that the oracle misses is lost in retrieval or in locating the region, not in
the policy. Families that need no search have a ceiling of 1 by construction.

With `--frugal` the oracle asks in the page's own words at once, where a demonstration first tries the
question's words. The searches that are left are those that no policy can save without losing answers. A less
accurate policy could save more, by giving up exactly where it would be wrong: `--accuracy` gives the most that
it could save.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from lensgraph.agent.config import Config, load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.record import Record
from lensgraph.rl.evaluation.run_tasks import ask
from lensgraph.rl.pocket.demonstrations import SEARCHING
from lensgraph.rl.pocket.oracle import OraclePolicy
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import from_world
from lensgraph.tools.local.world.questions import splits as world
from lensgraph.tools.local.world.questions.world_task import WorldTask
from lensgraph.tools.runtime.interval import interval

WIDTH = 100
"""Columns of a terminal that the table needs; a narrower one wraps it."""


def measure(tasks: Sequence[WorldTask], *, frugal: bool = False) -> list[Record]:
    """Run the oracle on every task; the records are those of an evaluation."""
    config = load_config()

    async def run() -> list[Record]:
        dialect = Backends(Context(config=config)).dialect
        shown = track(tasks, "oracle", console=Console(stderr=True), transient=True)
        return [await _run(task, config, dialect, frugal) for task in shown]

    return asyncio.run(run())


async def _run(task: WorldTask, config: Config, dialect: Dialect, frugal: bool) -> Record:
    oracle = OraclePolicy(task=task, dialect=dialect, frugal=frugal)
    return await ask(from_world(task), "search_agent", config, oracle, dialect)


def figures(records: Sequence[Record]) -> dict[str, Any]:
    """Accuracy and searches a question, with intervals: all, by family and by where the answer can come from."""
    parts: dict[str, Any] = {"all": _row(records)}
    for key in ("family", "knowledge"):
        names = sorted({getattr(record, key) for record in records})
        parts[f"by_{key}"] = {name: _row([r for r in records if getattr(r, key) == name]) for name in names}
    return parts


def _row(records: Sequence[Record]) -> dict[str, Any]:
    right = [float(record.correct) for record in records]
    calls = [float(record.searches) for record in records]
    answered = [count for count, good in zip(calls, right, strict=True) if good]
    return {
        "tasks": len(records),
        "ceiling": sum(right) / len(right),
        "interval": interval(right),
        "searches": sum(calls) / len(calls),
        "searches_interval": interval(calls),
        "searches_of_right": sum(answered) / len(answered) if answered else None,
        "searching": sum(count > 0 for count in calls) / len(calls),
    }


def fewest(records: Sequence[Record], accuracy: float) -> tuple[float, float]:
    """Fewest searches a question with which a share of the answers can be right: two bounds.

    At the first the policy gives up all other questions at once. At the second it searches once for every unknown one,
    because it cannot tell beforehand which questions it will fail at.

    Raises:
        ValueError: the oracle itself is right less often.
    """
    wanted = math.ceil(accuracy * len(records) - 1e-9)
    calls = [record.searches for record in records]
    right = sorted(count for record, count in zip(records, calls, strict=True) if record.correct)
    if wanted > len(right):
        raise UserError(f"an accuracy of {accuracy} is above the ceiling of {len(right) / len(records):.3f}")
    looked = sum(count > 0 for count in calls)
    kept = right[:wanted]
    return sum(kept) / len(records), (looked + sum(count - 1 for count in kept if count)) / len(records)


def table(found: dict[str, Any], title: str) -> Table:
    """The figures for the terminal."""
    shown = Table(
        "tasks of", "tasks", "ceiling (95 %)", "searches a question (95 %)", "where right", "searching", title=title
    )
    rows = {"all": found["all"], **found["by_family"]}
    rows |= {f"({name})": row for name, row in found["by_knowledge"].items()}
    for name, row in rows.items():
        (low, high), (fewest, most) = row["interval"], row["searches_interval"]
        where_right = "-" if row["searches_of_right"] is None else f"{row['searches_of_right']:.2f}"
        shown.add_row(
            name, str(row["tasks"]), f"{row['ceiling']:.3f} ({low:.3f}-{high:.3f})",
            f"{row['searches']:.2f} ({fewest:.2f}-{most:.2f})", where_right, f"{row['searching']:.3f}",
        )  # fmt: skip
    return shown


def run(args: argparse.Namespace) -> int:
    """Measure ceiling and searches by family and knowledge, with intervals; 0 done."""
    if args.first is not None and args.limit is not None:
        raise UserError("give either --limit or --first")
    if args.records and args.records.exists():
        raise UserError(f"{args.records} exists; name a file that does not")
    try:
        if args.first is not None:
            tasks = world.load_split(args.split, limit=args.first)
        else:
            tasks = [task for family in SEARCHING for task in world.load_split(args.split, family, limit=args.limit)]
    except ValueError as error:
        raise UserError(str(error)) from error
    records = measure(tasks, frugal=args.frugal)
    found = figures(records)
    oracle = "frugal oracle" if args.frugal else "oracle"
    Console(width=max(WIDTH, Console().width)).print(table(found, f"{oracle} on world/{args.split}"))
    found["fewest"] = {accuracy: fewest(records, accuracy) for accuracy in args.accuracy}
    for accuracy, (none, once) in found["fewest"].items():
        print(
            f"accuracy {accuracy:g}: at least {none:.2f} searches a question, "
            f"{once:.2f} if every unknown one is searched for"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), "utf-8")
    if args.records:
        for record in records:
            jsonl.append(args.records, asdict(record))
    return 0
