"""A LangGraph graph as the rollout: run it on tasks as it is served, and keep what happened token by token.

The policy samples inside the graph and reports the ids it sampled; the dialogue is rendered once more at the end, with
those ids taken as they are. So no sampled id is ever decoded and encoded again, and what is trained is what was sampled.

Graphs run concurrently and share the policy: whoever waits for it joins those that are sampled, and whoever waits for a
slow tool holds up nobody. An exception in one run becomes a trajectory with an `error` and nothing to train on; what had
happened by then is recorded, if the episode had ended and only its reward is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from lensgraph.agent.config import Config
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes import materialise, text_of
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.state import EVERYTHING, AgentState
from lensgraph.graphs import table
from lensgraph.rl.rollout import length_budget
from lensgraph.rl.rollout.trajectory import Said, Seen, Trajectory, TrajectoryStep
from lensgraph.rl.rollout.wait_clock import WaitClock
from lensgraph.rl.tasks import Task
from lensgraph.tools.safety.errors import named_line

Reward = Callable[[Trajectory, Task], Awaitable["dict[str, float] | None"]]
"""The reward's parts with their `total`; None: this episode has no reward."""


@dataclass(frozen=True)
class Rollout:
    """A trajectory with what only lives in memory."""

    trajectory: Trajectory
    """The record."""
    rendered: Rendered = field(default_factory=Rendered, repr=False)
    """Ids, mask and pixels for the trainer; empty if the run failed or the policy reports no ids."""
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Encoded bytes of the pictures that the trajectory names."""


@dataclass(frozen=True)
class RolloutSetup:
    """Everything that rollouts have in common."""

    graph: str
    """A name or an import path, as `lensgraph.graphs.table.find` takes it."""
    config: Config
    """Tools and limits."""
    policy: BaseChatModel
    """What samples."""
    dialect: Dialect
    """How actions are written."""
    name: str = ""
    """What the policy is called in the records."""
    temperature: float = 1.0
    """Of the sampling, for the records."""
    max_tokens: int | None = None
    """Tokens of one row, prompt included; a longer episode ends behind the last turn that fits (`lensgraph.rl.rollout.length_budget`). None: no
    limit."""
    reward: Reward | None = None
    """How episodes are rewarded. None: they are not."""
    tools: Mapping[str, Any] = field(default_factory=dict)
    """Live tools (`text_search`, `image_search`, `locate`) in place of the configured ones."""
    step: int | None = None
    """Training step, for the records."""
    clock: WaitClock | None = None
    """Measures the seconds in which anybody waited for the policy or a tool. None: nobody asks."""


async def roll(task: Task, setup: RolloutSetup, number: int = 0) -> Rollout:
    """Run one task through the graph; `number` tells the rollouts of one task apart. Raises nothing but cancellation."""
    base = Trajectory(
        id=f"{task.id}#{number}" + ("" if setup.step is None else f"@{setup.step}"),
        task=task.id,
        family=task.family,
        knowledge=task.knowledge,
        question=task.question,
        golds=task.golds,
        graph=setup.graph,
        dialect=setup.dialect.name,
        policy=setup.name,
        temperature=setup.temperature,
        step=setup.step,
    )
    try:
        return await _roll(base, task, setup)
    except Exception as error:  # one bad run must not lose its group
        return Rollout(replace(base, error=named_line(error, 500)))


async def _roll(base: Trajectory, task: Task, setup: RolloutSetup) -> Rollout:
    store = ImageStore()
    context = Context(config=setup.config, policy=setup.policy, dialect=setup.dialect, store=store, **setup.tools)
    pictures = await asyncio.to_thread(task.pictures)
    final: dict[str, Any] = await table.find(setup.graph).ainvoke(
        {"question": task.question, "images": pictures},
        None if setup.clock is None else {"callbacks": [setup.clock]},
        context=context,
        output_keys=EVERYTHING,
    )
    messages = await materialise(final["dialogue"], store, setup.dialect, setup.config.images.view_pixels)
    rendered, logprobs, spans = await asyncio.to_thread(tokens_of, messages, setup.policy, setup.max_tokens)
    said = tuple(_said(message) for message in final["dialogue"])
    spoken = [step["text"] for step in final["steps"] if "action" in step]
    trajectory = replace(
        base,
        answer=final["answer"],
        correct=task.correct(final["answer"]),
        stop_reason=str(final["stop_reason"]),
        well_formed=setup.dialect.well_formed(spoken),
        steps=steps_of(final, spans),
        messages=said,
        pictures=tuple(Seen(picture.id, picture.grid) for picture in rendered.pixels),
        ids=tuple(rendered.ids),
        mask=tuple(rendered.mask),
        logprobs=tuple(logprobs),
    )
    if setup.max_tokens is not None and _reported(messages, setup.policy) and len(spans) < _turns(messages):
        trajectory = length_budget.ended(trajectory, len(spans))
    kept = {identity: store.bytes(identity) for one in trajectory.messages for identity in one.pictures}
    try:
        reward = None if setup.reward is None else await setup.reward(trajectory, task)
    except Exception as error:  # what the policy did is worth keeping all the same
        return Rollout(replace(trajectory, error=named_line(error, 500)), pictures=kept)
    return Rollout(replace(trajectory, reward=reward), rendered, kept)


def _turns(messages: Sequence[BaseMessage]) -> int:
    return sum(isinstance(message, AIMessage) for message in messages)


def _reported(messages: Sequence[BaseMessage], policy: BaseChatModel) -> bool:
    """Whether the policy spoke, and told the ids of all that it said."""
    said = [message for message in messages if isinstance(message, AIMessage)]
    known = all("token_ids" in message.response_metadata for message in said)
    return bool(said) and known and getattr(policy, "renderer", None) is not None


def tokens_of(
    messages: Sequence[BaseMessage], policy: BaseChatModel, max_tokens: int | None = None
) -> tuple[Rendered, list[float], list[tuple[int, int]]]:
    """A finished dialogue in tokens, the log-probabilities of its sampled ones, and the borders of every turn.

    What follows the last sampled token is left out; so are turns (and the pictures before them) that begin a tail over
    `max_tokens`. Empty if the policy reports no token ids.
    """
    if not _reported(messages, policy):
        return Rendered(), [], []
    renderer = policy.renderer  # type: ignore[attr-defined]
    said = [message for message in messages if isinstance(message, AIMessage)]
    last = max(n for n, message in enumerate(messages) if isinstance(message, AIMessage))
    rendered = renderer.render(messages[: last + 1], generate=False)
    logprobs = [0.0] * len(rendered.ids)
    spans: list[tuple[int, int]] = []
    place = 0
    for message in said:
        start = rendered.mask.index(1, place)
        sampled = message.response_metadata["logprobs"]
        place = start + len(sampled)
        logprobs[start:place] = sampled
        spans.append((start, place))
    if max_tokens is not None and spans and spans[-1][1] > max_tokens:
        rendered, spans = length_budget.cut(rendered, spans, max_tokens, renderer)
    end = spans[-1][1] if spans else 0
    return Rendered(rendered.ids[:end], rendered.mask[:end], rendered.pixels), logprobs[:end], spans


def steps_of(final: dict[str, Any] | AgentState, spans: Sequence[tuple[int, int]]) -> tuple[TrajectoryStep, ...]:
    """The graph's steps as the trajectory keeps them, each with the node that followed and the tokens that it sampled."""
    records = list(final["steps"])
    nodes = [record["node"] for record in records]
    remaining = iter(spans)
    steps = []
    for record, after in zip(records, [*nodes[1:], None], strict=True):
        spoke = "action" in record
        steps.append(
            TrajectoryStep(
                node=record["node"],
                edge=after if after is not None else ("answer" if record["node"] != "answer" else None),
                turn=record["turn"],
                seconds=record["seconds"],
                price=record["price"],
                text=record.get("text", ""),
                action=record.get("action"),
                query=record.get("query"),
                hits=tuple(dict(hit) for hit in record["hits"]) if "hits" in record else None,
                crop=dict(record["crop"]) if record.get("crop") else None,
                error=record.get("error"),
                left_out=tuple(record.get("left_out", ())),
                cut_off=record.get("cut_off", 0),
                tokens=next(remaining, None) if spoke else None,
            )
        )
    return tuple(steps)


def _said(message: BaseMessage) -> Said:
    if isinstance(message, AIMessage):
        return Said("assistant", ({"type": "text", "text": text_of(message)},))
    blocks = [message.content] if isinstance(message.content, str) else message.content
    return Said("user", tuple(_block(block) for block in blocks))


def _block(block: str | dict[str, Any]) -> dict[str, str]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") == "image":
        return {"type": "image", "id": str(block["id"])}
    return {"type": "text", "text": str(block.get("text", ""))}


async def roll_all(
    tasks: Sequence[Task],
    setup: RolloutSetup,
    *,
    concurrent: int = 64,
    numbers: Sequence[int] | None = None,
    on_done: Callable[[Rollout], None] | None = None,
) -> AsyncIterator[tuple[int, Rollout]]:
    """Roll out every task, `concurrent` at a time; (index of the task, rollout) as they finish.

    `on_done` hears of each before its place is given to another, one at a time, in a thread.
    """
    numbers = numbers if numbers is not None else [0] * len(tasks)
    queue = iter(list(enumerate(zip(tasks, numbers, strict=True))))
    done: asyncio.Queue[tuple[int, Rollout | Exception]] = asyncio.Queue()
    one_at_a_time = asyncio.Lock()

    async def worker() -> None:
        for index, (task, number) in queue:
            rollout = await roll(task, setup, number)
            if on_done is not None:
                try:
                    async with one_at_a_time:
                        await asyncio.to_thread(on_done, rollout)
                except Exception as error:  # a full disk, say: whoever takes the rollouts must hear of it
                    await done.put((index, error))
                    return
            await done.put((index, rollout))

    workers = [asyncio.create_task(worker()) for _ in range(min(concurrent, len(tasks)))]
    try:
        for _ in tasks:
            index, made = await done.get()
            if isinstance(made, Exception):
                raise made
            yield index, made
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def roll_in_order(
    tasks: Sequence[Task],
    setup: RolloutSetup,
    *,
    concurrent: int = 64,
    numbers: Sequence[int] | None = None,
    on_done: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """`roll_all` in the order of the tasks."""
    found: dict[int, Rollout] = {}
    rolling = roll_all(tasks, setup, concurrent=concurrent, numbers=numbers, on_done=on_done)
    async for index, rollout in rolling:
        found[index] = rollout
    return [found[index] for index in range(len(tasks))]
