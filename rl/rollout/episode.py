"""The rollout: run a LangGraph graph on a task as it is served, and record it token by token.

The policy samples inside the graph and reports the sampled ids. At the end the dialogue is rendered once
more, with these ids as they are. So no sampled id is ever decoded and encoded again, and what is trained is
what was sampled.

Graphs run concurrently and share the policy, which samples all episodes that wait for it in one batch; an
episode that waits for a slow tool delays no other. An exception in one run becomes a trajectory with an
`error` and no tokens; if only the reward failed, the trajectory records the whole episode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage

from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.calling.shown import materialise
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import table
from lensgraph.graphs.asking import finished
from lensgraph.rl.rollout import length_budget
from lensgraph.rl.rollout.recording import has_ids, said_of, steps_of, tokens_of
from lensgraph.rl.rollout.trajectory import Seen, Trajectory
from lensgraph.rl.rollout.wait_clock import WaitClock
from lensgraph.rl.tasks import Task
from lensgraph.tools.safety.one_line import named_line

Reward = Callable[[Trajectory, Task], Awaitable["dict[str, float] | None"]]
"""Gives the parts of an episode's reward with their `total`; None: the episode has no reward."""


@dataclass(frozen=True)
class Rollout:
    """A trajectory, with its pixels and pictures, which are not part of the record."""

    trajectory: Trajectory
    """Record of the episode."""
    rendered: Rendered = field(default_factory=Rendered, repr=False)
    """Ids, mask and pixels for the trainer; empty if the run failed or the policy reports no ids."""
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Encoded bytes of the pictures that the trajectory names."""


@dataclass(frozen=True)
class RolloutSetup:
    """The setup that all rollouts of a batch share: graph, tools, policy and reward."""

    graph: str
    """Name or import path of the graph, as `lensgraph.graphs.table.find` takes it."""
    config: Config
    """Configuration of the agent: tools and limits."""
    policy: BaseChatModel
    """Chat model that samples the turns."""
    dialect: Dialect
    """Text form of the actions."""
    name: str = ""
    """Name of the policy in the records."""
    temperature: float = 1.0
    """Sampling temperature, for the records."""
    max_tokens: int | None = None
    """Most tokens of one row, prompt included; a longer episode ends after the last turn that fits
    (`lensgraph.rl.rollout.length_budget`). None: no limit."""
    reward: Reward | None = None
    """Reward of an episode; None: episodes have no reward."""
    tools: Mapping[str, Any] = field(default_factory=dict)
    """Live tools (`text_search`, `image_search`, `locate`) in place of the configured ones."""
    step: int | None = None
    """Training step, for the records."""
    clock: WaitClock | None = None
    """Clock of the seconds in which episodes waited for the policy or a tool; None: they are not measured."""

    def __post_init__(self) -> None:
        check_asks_nobody(self.config)


def check_asks_nobody(config: Config) -> None:
    """Refuse a configuration under which every run would wait for a person.

    Raises:
        ConfigError: it names the setting.
    """
    if config.approve:
        raise ConfigError(f"approve={','.join(config.approve)}: nobody is there to be asked; run it without approve.")


async def roll(task: Task, setup: RolloutSetup, number: int = 0) -> Rollout:
    """Run the graph on one task.

    `number` is part of the trajectory's id, and tells the rollouts of one task apart. An exception becomes the
    trajectory's `error`.

    Raises:
        ConfigError: a setting cannot work, so that every other run would fail like this one.
    """
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
    except ConfigError:
        raise
    except Exception as error:  # one bad run must not lose its group
        return Rollout(replace(base, error=named_line(error, 500)))


async def _roll(base: Trajectory, task: Task, setup: RolloutSetup) -> Rollout:
    store = ImageStore()
    context = Context(config=setup.config, policy=setup.policy, dialect=setup.dialect, store=store, **setup.tools)
    pictures = await asyncio.to_thread(task.pictures)
    final = finished(
        await table.find(setup.graph).ainvoke(
            {"question": task.question, "images": pictures},
            None if setup.clock is None else {"callbacks": [setup.clock]},
            context=context,
            output_keys=EVERYTHING,
        )
    )
    view = setup.config.images.view_pixels
    messages = await materialise(final["dialogue"], store, lambda block: setup.dialect.view(block, view))
    rendered, logprobs, spans = await asyncio.to_thread(
        tokens_of, messages, setup.policy, setup.max_tokens, setup.dialect.tools
    )
    said = tuple(said_of(message) for message in final["dialogue"])
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
    turns = sum(isinstance(message, AIMessage) for message in messages)
    if setup.max_tokens is not None and has_ids(messages, setup.policy) and len(spans) < turns:
        trajectory = length_budget.ended(trajectory, len(spans))
    kept = {identity: store.bytes(identity) for one in trajectory.messages for identity in one.pictures}
    try:
        reward = None if setup.reward is None else await setup.reward(trajectory, task)
    except Exception as error:  # what the policy did is worth keeping all the same
        return Rollout(replace(trajectory, error=named_line(error, 500)), pictures=kept)
    return Rollout(replace(trajectory, reward=reward), rendered, kept)


async def roll_all(
    tasks: Sequence[Task],
    setup: RolloutSetup,
    *,
    concurrent: int = 64,
    numbers: Sequence[int] | None = None,
    on_done: Callable[[Rollout], None] | None = None,
) -> AsyncIterator[tuple[int, Rollout]]:
    """Roll out every task, and yield (index of the task, rollout) as they finish.

    Args:
        tasks: One rollout is made for each; a task may stand there several times.
        setup: Graph, tools, policy and reward.
        concurrent: Most episodes at the same time.
        numbers: By task, the `number` for `roll`; None: 0 for all.
        on_done: Called with each rollout in a thread, one at a time, before another episode takes its place.

    Raises:
        ConfigError: see `roll`.
    """
    numbers = numbers if numbers is not None else [0] * len(tasks)
    queue = iter(list(enumerate(zip(tasks, numbers, strict=True))))
    done: asyncio.Queue[tuple[int, Rollout | Exception]] = asyncio.Queue()
    one_at_a_time = asyncio.Lock()

    async def worker() -> None:
        for index, (task, number) in queue:
            try:
                rollout = await roll(task, setup, number)
                if on_done is not None:
                    async with one_at_a_time:
                        await asyncio.to_thread(on_done, rollout)
            except Exception as error:  # a wrong setting or a full disk, say: the caller must hear of it
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
    """Roll out every task, and return the rollouts in the order of the tasks; see `roll_all`."""
    found: dict[int, Rollout] = {}
    rolling = roll_all(tasks, setup, concurrent=concurrent, numbers=numbers, on_done=on_done)
    async for index, rollout in rolling:
        found[index] = rollout
    return [found[index] for index in range(len(tasks))]
