"""Step-synchronous rollouts, to compare with: the policy samples only when every live episode waits for it.

The episodes are runs of the same graph with the same tools and the same sampler; the tools of a step run side
by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import PrivateAttr

from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.rollout.episode import Rollout, RolloutSetup, roll
from lensgraph.rl.tasks import Task

Held = tuple[Rendered, list[str], "asyncio.Future[Sampled]"]


class LockstepPolicy(TransformersPolicy):
    """A policy that samples only when every live episode waits for it."""

    _live: int = PrivateAttr(default=0)
    _held: list[Held] = PrivateAttr(default_factory=list)
    _task: Any = PrivateAttr(default=None)

    async def aturn(self, rendered: Rendered, stops: Sequence[str]) -> Sampled:
        """Sample a turn together with those of all live episodes."""
        future: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self._held.append((rendered, list(stops), future))
        self._fire()
        return await future

    async def run(
        self, tasks: Sequence[Task], setup: RolloutSetup, numbers: Sequence[int], concurrent: int
    ) -> list[Rollout]:
        """Run all episodes step by step, in batches of `concurrent`."""
        made: list[Rollout] = []
        for start in range(0, len(tasks), concurrent):
            some = slice(start, start + concurrent)
            self._live = len(tasks[some])
            pairs = zip(tasks[some], numbers[some], strict=True)
            made += await asyncio.gather(*(self._one(task, setup, number) for task, number in pairs))
        return made

    async def _one(self, task: Task, setup: RolloutSetup, number: int) -> Rollout:
        try:
            return await roll(task, setup, number)
        finally:
            self._live -= 1
            self._fire()

    def _fire(self) -> None:
        if self._held and len(self._held) >= self._live:
            held, self._held = self._held, []
            self._task = asyncio.get_running_loop().create_task(self._answer(held))

    async def _answer(self, held: list[Held]) -> None:
        try:
            rows, stops, _ = zip(*held, strict=True)
            said = await asyncio.to_thread(self.sample, rows, stops)
        except Exception as error:
            for _, _, future in held:
                future.set_exception(error)
            return
        for (_, _, future), turn in zip(held, said, strict=True):
            future.set_result(turn)
