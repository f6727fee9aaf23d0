"""`servers`: ask the same tasks of a policy in this process and of model servers that serve it, and compare.

    lensgraph serve policy.kind=openai_compatible policy.model=pocket   # or --engine llama_cpp, --engine transformers
    python -m lensgraph.rl servers http://127.0.0.1:8000/v1

Compared are the answers, and turn by turn, as long as the texts are equal: tokens of the prompt, sampled ids and their
log-probabilities, and whether a server's ids are all that its usage counts. Then a few first prompts are asked in a stream,
many at a time, and in dialogues that outgrow the context.

Not covered: a policy that samples; the temperature is 0 on both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from rich.console import Console
from rich.table import Table

from lensgraph.agent.config import Config, load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.calling.shown import materialise
from lensgraph.agent.policy.errors import ContextFull, PolicyError
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import table
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.tasks import Task, load_tasks

PROBES = 8
"""First prompts that are asked again, in a stream and all at once."""
TURN = 256
"""Longest turn that the servers are asked for, in tokens, unless `policy.max_new_tokens` says otherwise."""
THUMBNAILS = 12
"""Thumbnails of the dialogue that outgrows the context: as many as one server that was tried takes in a request, less one."""
SPARE = 150
"""Tokens by which that dialogue's text alone is shorter than the context: for the chat template and the words that stand where
thumbnails were. The thumbnails take more."""
SHORT_TURN = 16
"""Longest turn that is asked of such a dialogue."""


@dataclass(frozen=True)
class ServedEpisode:
    """One task's episode."""

    answer: str | None
    """The answer; None: there was none."""
    correct: bool
    """The answer matches the task's golds."""
    prompt: list[BaseMessage]
    """The first prompt, with its pictures."""
    turns: list[AIMessage]
    """The policy's turns, with what it told about their tokens."""
    problem: str = ""
    """Why the policy gave no turn; empty: it did."""


@dataclass
class ServerFigures:
    """The comparison of one server with the policy in this process."""

    name: str
    """The server's address."""
    tasks: int
    """Tasks that were asked of both."""
    answers: int = 0
    """Tasks with the same answer."""
    right: tuple[int, int] = (0, 0)
    """Right answers: in this process, by the server."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Seconds for all tasks: in this process, by the server."""
    turns: int = 0
    """Turns of the server."""
    with_ids: int = 0
    """Turns whose ids are complete."""
    same_text: int = 0
    """Turns that both asked for with the same dialogue and that have the same text."""
    same_prompt: int = 0
    """Of these, turns whose prompts have the same number of tokens."""
    same_ids: int = 0
    """Of these, turns with the same ids."""
    distances: list[float] = field(default_factory=list)
    """|difference of the log-probabilities| of every token in turns with the same ids."""
    streamed: int = 0
    """Of `PROBES` prompts, those with the same turn in a stream."""
    at_once: int = 0
    """Of `PROBES` prompts, those with the same turn all at once."""
    probes: int = 0
    """Prompts that were asked again."""
    problems: list[str] = field(default_factory=list)
    """One line for each thing that is wrong with the server."""

    def row(self) -> list[str]:
        """The cells of the table."""
        mean = sum(self.distances) / len(self.distances) if self.distances else None
        return [
            self.name,
            f"{self.answers} of {self.tasks}",
            f"{self.right[1] / self.tasks:.3f} ({self.right[0] / self.tasks:.3f})",
            f"{self.seconds[1]:.0f} ({self.seconds[0]:.0f})",
            f"{self.same_prompt} of {self.same_text}",
            f"{self.with_ids} of {self.turns}",
            f"{self.same_ids} of {self.same_text}" if self.with_ids else "not told",
            "not told" if mean is None else f"{mean:.4f}, {max(self.distances):.3f}",
            f"{self.streamed} of {self.probes}",
            f"{self.at_once} of {self.probes}",
            "; ".join(self.problems) or "none",
        ]


HEAD = (
    "server", "answers equal", "accuracy (here)", "seconds (here)", "prompts equal", "ids complete", "ids equal",
    "|Δ log p| mean, max", "streamed equal", "at once equal", "problems",
)  # fmt: skip


async def ask_all(tasks: Sequence[Task], config: Config, policy: BaseChatModel, concurrent: int) -> list[ServedEpisode]:
    """Ask every task, `concurrent` at a time; in the order of the tasks."""
    slots = asyncio.Semaphore(concurrent)
    dialect = config.make_dialect()

    async def one(task: Task) -> ServedEpisode:
        store = ImageStore()
        context = Context(config=config, policy=policy, dialect=dialect, store=store)
        async with slots:
            given = {"question": task.question, "images": await asyncio.to_thread(task.pictures)}
            final = await table.find("search_agent").ainvoke(given, context=context, output_keys=EVERYTHING)
        said = [message for message in final["dialogue"] if isinstance(message, AIMessage)]
        view = config.images.view_pixels
        first = await materialise(final["dialogue"][:1], store, lambda block: dialect.view(block, view))
        errors = [step["error"] for step in final["steps"] if "action" in step and step.get("error")]
        return ServedEpisode(final["answer"], task.correct(final["answer"]), first, said, errors[0] if errors else "")

    return list(await asyncio.gather(*(one(task) for task in tasks)))


def compare_turns(found: ServerFigures, here: AIMessage, there: AIMessage) -> bool:
    """Count what two turns have in common that answer the same dialogue; returns whether their texts are equal."""
    if str(here.text) != str(there.text):
        return False
    found.same_text += 1
    ours, theirs = here.response_metadata, there.response_metadata
    if here.usage_metadata and there.usage_metadata:
        found.same_prompt += here.usage_metadata["input_tokens"] == there.usage_metadata["input_tokens"]
    if ours.get("token_ids") == theirs.get("token_ids"):
        found.same_ids += 1
        pairs = zip(ours.get("logprobs", ()), theirs.get("logprobs", ()), strict=True)
        found.distances += [abs(one - other) for one, other in pairs]
    return True


async def probe(found: ServerFigures, policy: OpenAICompatiblePolicy, prompts: Sequence[list[BaseMessage]]) -> None:
    """Ask some prompts one after another, in a stream, and all at once."""
    alone = [await policy.ainvoke(prompt) for prompt in prompts]
    together = await asyncio.gather(*(policy.ainvoke(prompt) for prompt in prompts))
    found.probes = len(prompts)
    for prompt, one, other in zip(prompts, alone, together, strict=True):
        found.at_once += one.text == other.text
        chunks = [chunk async for chunk in policy.astream(prompt)]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        found.streamed += whole.text == one.text and whole.usage_metadata == one.usage_metadata
        ids = whole.response_metadata.get("token_ids")
        if ids is not None and ids != one.response_metadata.get("token_ids"):
            found.problems.append("a stream tells other ids than the whole answer")


async def overflow(found: ServerFigures, policy: OpenAICompatiblePolicy, words: int, prompt: list[BaseMessage]) -> None:
    """Send a dialogue that fits only without its thumbnails, then one that does not fit at all."""
    picture = next(dict(block) for block in prompt[0].content if isinstance(block, dict) and block["type"] == "image")
    small = [{**picture, "thumbnail": True, "id": f"thumbnail {n}"} for n in range(THUMBNAILS)]
    text = {"type": "text", "text": "the " * words}
    try:
        reply = await policy.ainvoke([HumanMessage([text, *small])], max_tokens=SHORT_TURN)
        if not reply.response_metadata.get("left_out"):
            found.problems.append("a dialogue that is too long was taken whole")
    except PolicyError as error:
        found.problems.append(f"a dialogue that fits without its thumbnails: {error}")
    try:
        await policy.ainvoke([HumanMessage([{**text, "text": "the " * words * 2}])], max_tokens=SHORT_TURN)
        found.problems.append("a text that is longer than the context was answered")
    except ContextFull:
        pass
    except PolicyError as error:
        found.problems.append(f"a text that is longer than the context: {error}")


def judge(found: ServerFigures, least: float) -> None:
    """Add what is wrong to the server's problems. `least`: smallest share of equal answers that is right."""
    if found.answers < least * found.tasks:
        found.problems.append(f"fewer than {least:.0%} of the answers are equal")
    if found.same_prompt < found.same_text:
        found.problems.append("prompts of the same dialogue differ in tokens: other pictures, or another template")
    if 0 < found.with_ids < found.turns:
        found.problems.append("some turns lack ids")
    if found.with_ids and found.same_ids < found.same_text:
        found.problems.append("turns of the same text differ in ids")
    if found.streamed < found.probes:
        found.problems.append("a stream says something else")
    if found.at_once < least * found.probes:
        found.problems.append("turns differ when many are asked at once")


async def compare(
    name: str,
    here: Sequence[ServedEpisode],
    seconds: float,
    tasks: Sequence[Task],
    config: Config,
    args: argparse.Namespace,
) -> ServerFigures:
    """Ask the tasks of the server at `config.policy.base_url`, and compare it with the episodes that were made here."""
    policy = await Backends(Context(config=config)).policy()
    assert isinstance(policy, OpenAICompatiblePolicy)
    found = ServerFigures(name, len(tasks))
    started = time.perf_counter()
    there = await ask_all(tasks, config, policy, args.concurrent)
    found.seconds = (seconds, time.perf_counter() - started)
    broken = [one.problem for one in there if one.problem]
    if broken:
        found.problems.append(f"{len(broken)} questions without a turn: {broken[0]}")
    found.right = (sum(one.correct for one in here), sum(one.correct for one in there))
    for one, other in zip(here, there, strict=True):
        found.answers += one.answer == other.answer
        found.turns += len(other.turns)
        found.with_ids += sum("token_ids" in turn.response_metadata for turn in other.turns)
        for pair in zip(one.turns, other.turns, strict=False):
            if not compare_turns(found, *pair):
                break
    if len(broken) < len(there):
        await probe(found, policy, [one.prompt for one in here[:PROBES]])
        if not args.context:
            return found
        await overflow(found, policy, args.context - SHORT_TURN - SPARE, here[0].prompt)
    return found


def run(args: argparse.Namespace) -> int:
    """Compare every server; 0 all are right, 1 one is not."""
    config = load_config(args.config, args.overrides)
    if config.policy.kind == "openai_compatible":
        raise UserError("policy.kind=openai_compatible: give the policy in this process, and the servers' addresses")
    reference = batched(config)
    tasks = load_tasks(args.tasks, args.limit)
    if not tasks:
        raise UserError(f"{args.tasks}: no tasks")
    started = time.perf_counter()

    async def every() -> list[ServerFigures]:
        here = await ask_all(tasks, reference, await Backends(Context(config=reference)).policy(), args.concurrent)
        seconds, made = time.perf_counter() - started, []
        for address in args.urls:
            where, _, model = address.partition("#")
            served = {
                "kind": "openai_compatible",
                "base_url": where,
                "model": model or config.policy.model,
            }
            served["options"] = {"start_wait": 0.0}  # the servers are up
            served["max_new_tokens"] = config.policy.max_new_tokens or TURN
            there = config.model_copy(update={"policy": config.policy.model_copy(update=served)})
            made.append(await compare(where, here, seconds, tasks, there, args))
        return made

    found = asyncio.run(every())
    for one in found:
        judge(one, args.least)
    shown = Table("", *[one.name for one in found], title=f"{len(tasks)} tasks of {args.tasks}")
    for name, *cells in list(zip(HEAD, *[one.row() for one in found], strict=True))[1:]:
        shown.add_row(name, *cells)
    Console(width=max(120, Console().width)).print(shown)
    if args.json:
        rows: list[dict[str, Any]] = [dict(zip(HEAD, one.row(), strict=True)) for one in found]
        args.json.write_text(json.dumps(rows, indent=1), "utf-8")
    return 1 if any(one.problems for one in found) else 0
