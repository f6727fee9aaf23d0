"""`python -m lensgraph.rl evaluate`: run a graph over a task set and say how often it is right, what it searched and what it cost.

    python -m lensgraph.rl evaluate --graph search_agent --tasks world/test --limit 200 --json out.json

Every question is one run of the compiled graph, the same that applications serve. Intervals are 95 % percentile
bootstraps over tasks. Search ratio is calls made over calls allowed (MMSearch-R1, caption of Table 1): by the limits of the
configured dialect, which in MMSearch-R1's own protocol are two a question.

With `--records FILE` each finished question is appended there, and a run that was interrupted goes on. The file names what
it was made with (`lensgraph.rl.evaluation.provenance`), and a run with anything else does not add to it. A question whose run raised is recorded
as a failed run: it counts as wrong, the others go on, and the next run tries it again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.config import load as load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects import Dialect
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import Limits
from lensgraph.agent.state import AskInput
from lensgraph.graphs import table
from lensgraph.rl.evaluation import provenance
from lensgraph.rl.evaluation import report as evaluation_report
from lensgraph.rl.evaluation.provenance import OtherRecordsError
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task, TaskError, load_tasks
from lensgraph.tools.safety.errors import named_line, one_line

ALLOWED_CALLS = 2
"""Searches that MMSearch-R1 and the fixed workflow `rag` allow a question; what the search ratio is a share of where no
limits are known."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Record:
    """One question's outcome."""

    task: str
    """Task id."""
    family: str
    """Kind of question; empty if the set names none."""
    knowledge: str
    """Where the answer can come from without a search; empty if not labelled."""
    answer: str | None
    """None: there was none."""
    correct: bool
    """By the task's golds and tolerance."""
    stop_reason: str
    """A value of `lensgraph.agent.limits.StopReason`."""
    turns: int
    """Turns of the policy."""
    malformed: int
    """Turns that could not be read as an action."""
    well_formed: bool
    """Whether the whole episode keeps the dialect's format rules."""
    image_searches: int
    """Image searches made."""
    text_searches: int
    """Text searches made."""
    seconds: dict[str, float]
    """Waiting for the policy or a tool, by node. Concurrent questions share the policy, so this is not latency."""
    price: float
    """In the currency of the configured prices."""
    trace: list[dict[str, Any]]
    """The turns, for reading a single case."""
    error: str | None = None
    """What the run raised; None: it ran to its end."""
    asked: str = ""
    """Digest of question, golds and tolerance. Empty: an earlier version did not say."""


async def ask(task: Task, graph: str, config: Config, policy: BaseChatModel, dialect: Dialect) -> Record:
    """Run one question through a graph."""
    context = Context(config=config, policy=policy, dialect=dialect, store=ImageStore())
    state: AskInput = {"question": task.question, "images": await asyncio.to_thread(task.pictures)}
    final: dict[str, Any] = {}
    async for final in table.find(graph).astream(state, context=context, stream_mode="values"):
        pass
    steps, usage = final["steps"], final["usage"]
    spoken = [step for step in steps if "action" in step]
    return Record(
        task=task.id,
        family=task.family,
        knowledge=task.knowledge,
        answer=final["answer"],
        correct=task.correct(final["answer"]),
        stop_reason=final["stop_reason"],
        turns=usage["turns"],
        malformed=sum(turn["action"]["kind"] == "malformed" for turn in spoken),
        well_formed=dialect.well_formed([turn["text"] for turn in spoken]),
        image_searches=usage["searches"]["image"],
        text_searches=usage["searches"]["text"],
        seconds=usage["seconds"],
        price=sum(usage["price"].values()),
        trace=[{k: v for k, v in step.items() if k in ("node", "text", "query", "error", "hits")} for step in steps],
        asked=asked(task),
    )


def failed(task: Task, error: Exception) -> Record:
    """The record of a question whose run raised."""
    return Record(
        task=task.id, family=task.family, knowledge=task.knowledge, answer=None, correct=False, stop_reason="failed",
        turns=0, malformed=0, well_formed=False, image_searches=0, text_searches=0, seconds={}, price=0.0, trace=[],
        error=named_line(error, 500), asked=asked(task),
    )  # fmt: skip


def asked(task: Task) -> str:
    """Digest of what a task asks and accepts: a task of the same id with another question is another task."""
    what = json.dumps([task.question, task.golds, task.tolerance], default=str)
    return hashlib.sha256(what.encode()).hexdigest()[: provenance.LENGTH]


def batched(config: Config) -> Config:
    """The configuration with a policy that samples concurrent questions together, unless its kind was set by hand."""
    if config.policy.kind != "pocket" or "kind" in config.policy.model_fields_set:
        return config
    return config.model_copy(update={"policy": config.policy.model_copy(update={"kind": "transformers"})})


def evaluate(
    tasks: Sequence[Task],
    *,
    graph: str,
    config: Config,
    concurrent: int = 32,
    records: Path | None = None,
    policy: BaseChatModel | None = None,
    weights: str = "",
) -> list[Record]:
    """Run every task; what `records` already holds is not run again, unless it failed. Progress goes to stderr.

    `policy` is a live policy in place of the configured one, and `weights` the digest of its weights.

    Raises:
        OtherRecordsError: `records` was made with something else, or a task was asked otherwise there.
    """
    done: dict[str, Record] = {}
    if records:
        source = task_set(tasks)
        provenance.claim(
            records, provenance.made_with(graph, source, config, weights=None if policy is None else weights)
        )
        done = {row["task"]: Record(**row) for row in provenance.rows(records)}
        for task in tasks:
            if task.id in done and done[task.id].asked != asked(task):
                raise OtherRecordsError(
                    f"{records}: task {task.id} has another question or other golds there; name another file, or delete this one"
                )
    todo = [task for task in tasks if task.id not in done or done[task.id].error is not None]
    if todo:
        for record in asyncio.run(_run(todo, graph, config, concurrent, records, policy)):
            done[record.task] = record
    return [done[task.id] for task in tasks]


def task_set(tasks: Sequence[Task]) -> str:
    """What the set is called: a name, or the file's name with a digest of its content."""
    source = tasks[0].source if tasks else ""
    path = Path(source)
    return f"{path.name} {provenance.file_digest(path)}" if path.is_file() else source


async def _run(
    tasks: Sequence[Task],
    graph: str,
    config: Config,
    concurrent: int,
    records: Path | None,
    live: BaseChatModel | None,
) -> list[Record]:
    backends = await asyncio.to_thread(Backends, Context(config=config))
    policy = live if live is not None else await backends.policy()
    queue, made = iter(tasks), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(graph, total=len(tasks))

        async def worker() -> None:
            for task in queue:
                try:
                    record = await ask(task, graph, config, policy, backends.dialect)
                except Exception as error:  # one bad run must not lose the others
                    record = failed(task, error)
                made.append(record)
                if records:
                    jsonl.append(records, asdict(record))
                progress.advance(bar)

        await asyncio.gather(*(worker() for _ in range(min(concurrent, len(tasks)))))
    return made


def allowed_calls(graph: str, limits: Limits) -> int:
    """Searches that a question may make: by kind, all together, and one a turn before the last, which may only answer."""
    if graph == "rag":
        return ALLOWED_CALLS  # it makes both, whatever the dialect allows
    kinds = math.inf if limits.image is None or limits.text is None else limits.image + limits.text
    return int(min(kinds, math.inf if limits.calls is None else limits.calls, limits.turns - 1))


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; (nan, nan) for nothing."""
    if not values:
        return float("nan"), float("nan")
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def summarise(records: Sequence[Record], allowed: int = ALLOWED_CALLS) -> dict[str, Any]:
    """The figures of a set of records; `allowed` are the searches that a question might have made (`allowed_calls`)."""
    count = len(records)
    right = [float(record.correct) for record in records]
    turns = sum(record.turns for record in records)
    low, high = interval(right)
    seconds: Counter[str] = Counter()
    for record in records:
        seconds.update(record.seconds)
    calls = sum(record.image_searches + record.text_searches for record in records)
    return {
        "tasks": count,
        "failed_runs": sum(record.error is not None for record in records),
        "accuracy": sum(right) / count,
        "interval": [low, high],
        "search_ratio": calls / (allowed * count) if allowed else 0.0,
        "searching_share": sum(r.image_searches + r.text_searches > 0 for r in records) / count,
        "image_searches": sum(r.image_searches for r in records) / count,
        "text_searches": sum(r.text_searches for r in records) / count,
        "turns": turns / count,
        "well_formed_turns": 1 - sum(r.malformed for r in records) / max(1, turns),
        "well_formed_episodes": sum(r.well_formed for r in records) / count,
        "stop_reasons": dict(Counter(r.stop_reason for r in records)),
        "seconds": {node: value / count for node, value in seconds.items()},
        "price": sum(r.price for r in records) / count,
    }


def report(records: Sequence[Record], allowed: int = ALLOWED_CALLS) -> dict[str, Any]:
    """Figures of all records, by family and by where the answer can come from; `allowed` as in `summarise`."""
    tables: dict[str, dict[str, Any]] = {}
    for key in ("family", "knowledge"):
        groups: defaultdict[str, list[Record]] = defaultdict(list)
        for record in records:
            groups[getattr(record, key) or "-"].append(record)
        tables[key] = {name: summarise(group, allowed) for name, group in sorted(groups.items())}
    return {
        "allowed_calls": allowed,
        "all": summarise(records, allowed),
        "by_family": tables["family"],
        "by_knowledge": tables["knowledge"],
    }


def main(argv: Iterable[str] | None = None) -> int:
    """Run the command line; 0 done, 1 every run failed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--graph", default="search_agent", help=table.HELP)
    parser.add_argument("--tasks", default="world/test", help="a task set's name or a .jsonl file")
    parser.add_argument("--family", help="only this family")
    parser.add_argument("--limit", type=int, help="the first so many tasks")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--plot", type=Path, help="draw accuracy and searches by family here (needs lensgraph[train])")
    parser.add_argument("--records", type=Path, help="append every question here, and go on from it")
    parser.add_argument("--concurrent", type=int, default=32, help="questions at a time")
    parser.add_argument("--config", type=Path, help="a configuration file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as policy.model=FOLDER")
    args = parser.parse_args(list(argv) if argv is not None else None)
    try:
        config = batched(load_config(args.config, args.overrides))
        tasks = load_tasks(args.tasks, args.limit, family=args.family)
        table.find(args.graph)
        limits = Backends(Context(config=config)).dialect.limits
    except (ConfigError, TaskError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    started = time.perf_counter()
    try:
        records = evaluate(tasks, graph=args.graph, config=config, concurrent=args.concurrent, records=args.records)
    except (ConfigError, OtherRecordsError, OSError) as error:
        print(one_line(error, 1_000, first=True), file=sys.stderr)
        return 2
    broken = [record.error for record in records if record.error is not None]
    if broken:
        print(
            f"failed runs: {len(broken)} of {len(records)}, counted as wrong; the first: {broken[0]}", file=sys.stderr
        )
    figures = {
        "graph": args.graph,
        "tasks": args.tasks,
        "policy": config.policy.model,
        "wall_seconds": time.perf_counter() - started,
        **report(records, allowed_calls(args.graph, limits)),
    }
    title = f"{args.graph} on {args.tasks}"
    Console(width=max(evaluation_report.WIDTH, Console().width)).print(evaluation_report.table(figures, title))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if args.markdown:
        args.markdown.write_text(evaluation_report.markdown(figures, title), "utf-8")
    if args.plot:
        evaluation_report.draw(figures, title, args.plot)
    return 1 if len(broken) == len(records) else 0
