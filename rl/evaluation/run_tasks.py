"""Run a graph over tasks, and record every question.

A file of records names what it was made with (`lensgraph.rl.evaluation.provenance`). A run goes on from its
records, and a run of anything else is refused. A question whose run raised is recorded as a failed run: it
counts as wrong, the others go on, and the next run tries it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore
from lensgraph.agent.state import AskInput
from lensgraph.agent.usage import actions_of
from lensgraph.graphs import table
from lensgraph.rl.evaluation import provenance
from lensgraph.rl.evaluation.provenance import OtherRecordsError
from lensgraph.rl.evaluation.record import Record, records_in
from lensgraph.rl.rollout.episode import check_asks_nobody
from lensgraph.rl.rollout.failures import ENOUGH, MAX_FAILED_SHARE, Failures, of_step
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import Task
from lensgraph.tools.safety.one_line import named_line

THEN = "mend it and run again, with the same --records to go on from them"


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
        malformed=sum(any(a["kind"] == "malformed" for a in actions_of(step)) for step in spoken),
        well_formed=dialect.well_formed([step["text"] for step in spoken]),
        image_searches=usage["searches"]["image"],
        text_searches=usage["searches"]["text"],
        seconds=usage["seconds"],
        price=sum(usage["price"].values()),
        trace=[{k: v for k, v in step.items() if k in ("node", "text", "query", "error", "hits")} for step in steps],
        asked=question_digest(task),
    )


def failed(task: Task, error: Exception) -> Record:
    """The record of a question whose run raised."""
    return Record(
        task=task.id, family=task.family, knowledge=task.knowledge, answer=None, correct=False, stop_reason="failed",
        turns=0, malformed=0, well_formed=False, image_searches=0, text_searches=0, seconds={}, price=0.0, trace=[],
        error=named_line(error, 500), asked=question_digest(task),
    )  # fmt: skip


def question_digest(task: Task) -> str:
    """Digest of a task's question, golds and tolerance, because another question may come under the same id."""
    content = json.dumps([task.question, task.golds, task.tolerance], default=str)
    return hashlib.sha256(content.encode()).hexdigest()[: provenance.LENGTH]


def batched(config: Config) -> Config:
    """The configuration with a policy that samples concurrent questions together, unless its kind was set by hand.

    Raises:
        ConfigError: a person would be asked about calls.
    """
    check_asks_nobody(config)
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
    max_failed_share: float = MAX_FAILED_SHARE,
) -> list[Record]:
    """Run every task; one that `records` already holds is not run again, unless it failed. Progress goes to stderr.

    `policy` is a live policy in place of the configured one, and `weights` the digest of its weights.

    Raises:
        TooManyFailed: more than `max_failed_share` of the questions failed for no fault of the policy.
        ConfigError: a setting cannot work.
        OtherRecordsError: `records` was made with something else, or holds a task of the same id with another question.
        DamagedLineError: `records` is damaged, or holds something else.
    """
    done: dict[str, Record] = {}
    if records:
        source = task_set(tasks)
        provenance.claim(
            records, provenance.made_with(graph, source, config, weights=None if policy is None else weights)
        )
        done = records_in(records)
        for task in tasks:
            if task.id in done and done[task.id].asked != question_digest(task):
                raise OtherRecordsError(
                    f"{records}: task {task.id} has another question or other golds there; name another file, "
                    "or delete this one"
                )
    todo = [task for task in tasks if task.id not in done or failures_of(done[task.id])]
    if todo:
        for record in asyncio.run(_run(todo, graph, config, concurrent, records, policy, max_failed_share)):
            done[record.task] = record
    return [done[task.id] for task in tasks]


def task_set(tasks: Sequence[Task]) -> str:
    """Name of the tasks' set: a built-in set's name, or a file's name with a digest of its content."""
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
    max_failed_share: float,
) -> list[Record]:
    backends = await asyncio.to_thread(Backends, Context(config=config))
    policy = live if live is not None else await backends.policy()
    queue, made, failures = iter(tasks), [], Failures()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(graph, total=len(tasks))

        async def worker() -> None:
            for task in queue:
                try:
                    record = await ask(task, graph, config, policy, backends.dialect)
                except ConfigError:
                    raise
                except Exception as error:  # one bad run must not lose the others
                    record = failed(task, error)
                made.append(record)
                if records:
                    jsonl.append(records, asdict(record))
                failures.add(failures_of(record))
                failures.check(max_failed_share, least=ENOUGH, then=THEN)
                progress.advance(bar)

        workers = [asyncio.create_task(worker()) for _ in range(min(concurrent, len(tasks)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
    failures.check(max_failed_share, then=THEN)
    return made


def failures_of(record: Record) -> list[tuple[str, str]]:
    """(what failed, why) of every failure in a question's run that is not the policy's doing."""
    if record.error is not None:
        return [("run", record.error)]
    return [found for step in record.trace if (found := of_step(step["node"], step.get("error"))) is not None]
