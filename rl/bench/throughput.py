"""`throughput`: rollouts a second, beside the alternatives, in one run.

    python -m lensgraph.rl throughput --json throughput.json

The ways to roll out are those of `lensgraph.rl.bench.rollout_ways`. Each is measured with tools as they are and
with tools that take longer (uniformly between two bounds, as over a network), and with any number of episodes
at a time: `graph` begins another episode when one ends, the others when all have ended. Rounds of the ways
alternate, so that other load on the machine hits all of them. Figures are means over rounds with their range.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lensgraph.agent.config import load_config
from lensgraph.agent.errors import UserError
from lensgraph.rl.bench.rollout_ways import WAYS, RolloutBench, RolloutRound
from lensgraph.rl.evaluation.tables import as_markdown
from lensgraph.rl.tasks import load_tasks

Case = tuple[str, tuple[float, float], int]
"""Way, bounds of the tools' extra seconds, episodes at a time."""


def rows_of(found: Mapping[Case, Sequence[RolloutRound]]) -> list[dict[str, Any]]:
    """The figures of every case, as plain values."""
    rows = []
    for (way, bounds, concurrent), rounds in found.items():
        seconds = [one.seconds for one in rounds]
        ours = [one.seconds / one.tokens for one in found["graph", bounds, concurrent]]
        ratios = [one.seconds / one.tokens / mine for one, mine in zip(rounds, ours, strict=True)]
        rollouts = sum(one.rollouts for one in rounds)
        rows.append(
            {
                "way": way,
                "tool_seconds": list(bounds),
                "concurrent": concurrent,
                "rounds": len(rounds),
                "seconds": [statistics.mean(seconds), min(seconds), max(seconds)],
                "rollouts_per_second": rollouts / sum(seconds),
                "tokens_per_second": sum(one.tokens for one in rounds) / sum(seconds),
                "tool_calls_per_rollout": sum(one.calls for one in rounds) / rollouts,
                "slower_per_token_than_graph": [statistics.mean(ratios), min(ratios), max(ratios)],
                "waiting_per_rollout": {
                    kind: sum(one.waiting[kind] for one in rounds) / rollouts for kind in rounds[0].waiting
                },
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The figures for the terminal."""
    shown = Table(
        "tools take", "at a time", "way", "seconds a round", "rollouts/s", "tokens/s", "calls", "ours is faster by"
    )
    for row in rows:
        shown.add_row(
            _tools(row), str(row["concurrent"]), row["way"], "{:.2f} ({:.2f}-{:.2f})".format(*row["seconds"]),
            f"{row['rollouts_per_second']:.2f}", f"{row['tokens_per_second']:.0f}",
            f"{row['tool_calls_per_rollout']:.2f}", _ratio(row),
        )  # fmt: skip
    return shown


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table."""
    cells = [
        (
            _tools(row), str(row["concurrent"]), row["way"], "{:.1f} ({:.1f}-{:.1f})".format(*row["seconds"]),
            f"{row['rollouts_per_second']:.1f}", f"{row['tokens_per_second']:.0f}", _ratio(row),
            ", ".join(f"{kind} {value:.2f}" for kind, value in row["waiting_per_rollout"].items()),
        )
        for row in rows
    ]  # fmt: skip
    return as_markdown(
        ("tools take", "at a time", "way", "seconds a round", "rollouts/s", "tokens/s", "`graph` faster by",
         "waiting an episode, s"), cells,
    )  # fmt: skip


def _tools(row: Mapping[str, Any]) -> str:
    low, high = row["tool_seconds"]
    return "as they are" if high <= 0 else f"{low * 1000:.0f}-{high * 1000:.0f} ms more"


def _ratio(row: Mapping[str, Any]) -> str:
    return "" if row["way"] == "graph" else "{:.2f}x ({:.2f}-{:.2f})".format(*row["slower_per_token_than_graph"])


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done."""
    if unknown := sorted(set(args.ways) - set(WAYS)):
        raise UserError(f"--ways {unknown[0]}: there are {', '.join(WAYS)}")
    console, tasks = Console(), load_tasks(args.tasks, args.limit)
    bench = RolloutBench(args.policy, tasks, args.generations, load_config(), args.max_new_tokens)
    levels = args.concurrent or [len(bench.tasks)]
    if wrong := [level for level in levels if level < 1 or level % args.generations or len(bench.tasks) % level]:
        raise UserError(
            f"--concurrent {wrong[0]}: give a multiple of --generations ({args.generations}) that divides the "
            f"{len(bench.tasks)} episodes"
        )
    ways = [way for way in WAYS if way == "graph" or way in (args.ways or WAYS)]
    bounds = [(0.0, 0.0), (args.slow[0], args.slow[1])]
    found: dict[Case, list[RolloutRound]] = {(w, b, c): [] for b in bounds for c in levels for w in ways}
    for number in range(args.rounds + 1):  # round 0 warms up
        for case in found:
            way, slow, concurrent = case
            if number == 0 and (slow[1] > 0 or concurrent != levels[0]):
                continue  # one warm-up of every way is enough
            one = bench.measure(way, slow, concurrent, number)
            if number:
                found[case].append(one)
            console.print(
                f"round {number}  {concurrent:3} at a time  {way:8}  {one.seconds:.2f} s  {one.rollouts} rollouts",
                highlight=False,
            )
    bench.close()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    console.print(
        f"{device}; {len(tasks)} tasks x {args.generations} episodes; {args.rounds} rounds; "
        f"`graph` samples in a {bench.sampler}"
    )
    rows = rows_of(found)
    console.print(table(rows))
    console.print("Ratios are seconds a sampled token, round by round, because sampled episodes differ in length.")
    if args.json:
        args.json.write_text(
            json.dumps(
                {"device": device, "sampler": bench.sampler, "torch": torch.__version__, "rows": rows}, indent=1
            ),
            "utf-8",
        )
    if args.markdown:
        args.markdown.write_text(markdown(rows), "utf-8")
    return 0
