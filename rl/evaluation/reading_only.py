"""`reading`: the accuracy of a policy given the page with the answer, apart from its choice of actions.

The scripted oracle runs the real graph up to the page that states the answer; from there the policy goes on
alone. Tasks whose page the oracle does not reach are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lensgraph.agent.actions import Answer, SearchByText
from lensgraph.agent.config import Config, load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.policy.model_types import AsyncManager, Messages, Stop
from lensgraph.rl.evaluation.run_tasks import batched
from lensgraph.rl.pocket.demonstrations import demonstrate
from lensgraph.rl.pocket.oracle import OraclePolicy
from lensgraph.tools.local.world.questions import splits as world
from lensgraph.tools.local.world.questions.world_task import WorldTask
from lensgraph.tools.runtime.interval import interval

FAMILIES = ("image_text", "crop_text", "correction")
"""Families in which a page states the answer."""


class HandOver(OraclePolicy):
    """The oracle until the page with the answer is in the dialogue, the reader from then on."""

    reader: BaseChatModel
    """Policy that is measured."""

    _reached: bool = PrivateAttr(default=False)

    @property
    def reached(self) -> bool:
        """Whether the reader has taken over."""
        return self._reached

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        if not self._reached:
            said = [self.dialect.read(str(m.text)) for m in messages if isinstance(m, AIMessage)]
            _, action = self.decide(said, str(messages[-1].text))
            self._reached = bool(said) and isinstance(said[-1], SearchByText) and isinstance(action, Answer)
        if not self._reached:
            return self._generate(messages, stop, None, **kwargs)
        return ChatResult(
            generations=[ChatGeneration(message=await self.reader.ainvoke(messages, stop=stop, **kwargs))]
        )


async def read(
    tasks: Sequence[WorldTask], config: Config, *, concurrent: int = 32
) -> list[tuple[WorldTask, bool, bool]]:
    """Run every task; returns (task, page reached, answer right) for each."""
    backends = await asyncio.to_thread(Backends, Context(config=config))
    reader, queue = await backends.policy(), iter(tasks)
    made: list[tuple[WorldTask, bool, bool]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading", total=len(tasks))

        async def worker() -> None:
            for task in queue:
                oracle = HandOver(task=task, dialect=backends.dialect, reader=reader)
                _, is_right = await demonstrate(task, "search_agent", config, oracle=oracle)
                made.append((task, oracle.reached, is_right))
                progress.advance(bar)

        await asyncio.gather(*(worker() for _ in range(min(concurrent, len(tasks)))))
    return made


def run(args: argparse.Namespace) -> int:
    """Measure accuracy given the gold page, per family; 0 done."""
    config = batched(load_config(args.config, args.overrides))
    tasks = [
        task
        for family in FAMILIES
        for task in [t for t in world.load_split(args.split, family) if t.query_formal][: args.limit]
    ]
    rows = asyncio.run(read(tasks, config))
    table = Table("", "tasks", "page reached", "right, given the page", "95 %", title=f"reading on world/{args.split}")
    figures = {}
    for name in ("all", *FAMILIES):
        mine = [row for row in rows if name in ("all", row[0].family)]
        right = [float(is_right) for _, reached, is_right in mine if reached]
        low, high = interval(right)
        share = sum(right) / max(1, len(right))
        figures[name] = {"tasks": len(mine), "reached": len(right), "accuracy": share, "interval": [low, high]}
        table.add_row(name, str(len(mine)), str(len(right)), f"{share:.3f}", f"{low:.3f}-{high:.3f}")
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    return 0
