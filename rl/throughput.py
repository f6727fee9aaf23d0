"""`python -m rl.throughput`: how fast rollouts are made, beside the alternatives, in one run.

    python -m rl.throughput --json throughput.json

Three ways to roll the same policy out on the same tasks with the same tools:

- `graph`: ours. Whoever waits for the policy is sampled in the next batch; a slow tool holds up nobody.
- `lockstep`: the same graph, but the policy waits until every live episode waits for it (step-synchronous batching).
- `trl`: TRL's own tool loop (`environment_factory`), untouched.

Each with tools as they are, and with tools that take longer (uniformly between two bounds, as over a network). Rounds of
the ways alternate, so that what else the machine does hits all of them; figures are means over rounds with their range.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from PIL import Image
from pydantic import PrivateAttr
from rich.console import Console
from rich.table import Table
from trl import GRPOConfig

from agent.config import Config
from agent.config import load as load_config
from agent.context import Backends, Context
from agent.dialects import Dialect
from agent.pocket import checkpoint
from agent.policy.processor import load_processor
from agent.policy.render import Renderer
from agent.policy.sampled import as_result
from agent.policy.transformers import TransformersPolicy, _Waiting
from rl.graph_trainer import in_own_loop
from rl.grpo import load_policy
from rl.rollout import Rollout, Setting, gathered, roll
from rl.stock_loop import StockLoop, row
from rl.tasks import Task
from rl.tasks import load as load_tasks
from tools.base import ImageSearch, LensTool, TextSearch
from tools.results import SearchResult

WAYS = ("graph", "lockstep", "trl")


class SlowText(TextSearch):
    """A text search that takes its time."""

    _inner: Any = PrivateAttr()
    _seconds: Any = PrivateAttr()

    def around(self, inner: TextSearch, seconds: Callable[[], float]) -> SlowText:
        """Wrap a tool; `seconds` says how long the next call waits."""
        self._inner, self._seconds = inner, seconds
        return self

    async def asearch(self, query: str) -> SearchResult:
        """Wait, then search."""
        await asyncio.sleep(self._seconds())
        result: SearchResult = await self._inner.asearch(query)
        return result


class SlowImage(ImageSearch):
    """An image search that takes its time."""

    _inner: Any = PrivateAttr()
    _seconds: Any = PrivateAttr()

    def around(self, inner: ImageSearch, seconds: Callable[[], float]) -> SlowImage:
        """Wrap a tool; `seconds` says how long the next call waits."""
        self._inner, self._seconds = inner, seconds
        return self

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Wait, then search."""
        await asyncio.sleep(self._seconds())
        result: SearchResult = await self._inner.asearch(image)
        return result


class LockstepPolicy(TransformersPolicy):
    """A policy that samples only when every live episode waits for it."""

    _live: int = PrivateAttr(default=0)
    _held: list[_Waiting] = PrivateAttr(default_factory=list)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        rendered = await asyncio.to_thread(lambda: self.renderer.render(messages))
        waiting = _Waiting(rendered, asyncio.get_running_loop().create_future())
        self._held.append(waiting)
        self._fire()
        return as_result(self.model, self.renderer, rendered, await waiting.future)

    async def run(self, tasks: Sequence[Task], setting: Setting, numbers: Sequence[int]) -> list[Rollout]:
        """All episodes at once, step by step."""
        self._live = len(tasks)

        async def one(task: Task, number: int) -> Rollout:
            try:
                return await roll(task, setting, number)
            finally:
                self._live -= 1
                self._fire()

        return list(await asyncio.gather(*(one(task, n) for task, n in zip(tasks, numbers, strict=True))))

    def _fire(self) -> None:
        if self._held and len(self._held) >= self._live:
            held, self._held = self._held, []
            self._task = asyncio.get_running_loop().create_task(self._answer(held))

    async def _answer(self, held: list[_Waiting]) -> None:
        try:
            sampled = await asyncio.to_thread(self.sample, [one.rendered for one in held])
        except Exception as error:
            for one in held:
                one.future.set_exception(error)
            return
        for one, said in zip(held, sampled, strict=True):
            one.future.set_result(said)

    _task: Any = PrivateAttr(default=None)


@dataclass(frozen=True)
class Measured:
    """One round of one way."""

    seconds: float
    """Wall time."""
    rollouts: int
    """Episodes."""
    tokens: int
    """Sampled tokens."""
    calls: int
    """Tool calls."""
    waiting: dict[str, float]
    """Summed over episodes: seconds in the policy and in tools. Empty where the loop does not tell."""


class Bench:
    """The policy, the tools and the tasks that all ways share."""

    def __init__(self, policy: str, tasks: list[Task], generations: int, config: Config, max_new_tokens: int) -> None:
        self.tasks = [task for task in tasks for _ in range(generations)]
        self.numbers = [n for _ in tasks for n in range(generations)]
        self.distinct, self.generations, self.config, self.max_new_tokens = tasks, generations, config, max_new_tokens
        self.folder = Path(checkpoint(policy))
        self.network = load_policy(self.folder).eval()
        backends = Backends(Context(config=config))
        self.dialect: Dialect = backends.dialect

        async def tools() -> dict[str, LensTool]:
            return {name: await backends.tool(name) for name in ("text_search", "image_search", "locate")}  # type: ignore[arg-type]

        self.tools = asyncio.run(tools())

    def slowed(self, bounds: tuple[float, float], seed: int) -> dict[str, LensTool]:
        """The tools, waiting uniformly between two bounds (seconds) before they work."""
        if bounds[1] <= 0:
            return dict(self.tools)
        rng = random.Random(seed)
        text, image = self.tools["text_search"], self.tools["image_search"]
        assert isinstance(text, TextSearch)
        assert isinstance(image, ImageSearch)
        return {
            **self.tools,
            "text_search": SlowText().around(text, lambda: rng.uniform(*bounds)),
            "image_search": SlowImage().around(image, lambda: rng.uniform(*bounds)),
        }

    def measure(self, way: str, bounds: tuple[float, float], seed: int) -> Measured:
        """One round."""
        torch.manual_seed(seed)
        tools = self.slowed(bounds, seed)
        return self._trl(tools) if way == "trl" else self._graph(way, tools)

    def _graph(self, way: str, tools: dict[str, LensTool]) -> Measured:
        kind = LockstepPolicy if way == "lockstep" else TransformersPolicy
        policy = kind(model="bench", temperature=1.0, max_new_tokens=self.max_new_tokens, max_batch=len(self.tasks))
        policy.attach(self.network, Renderer(load_processor(self.folder)))
        setting = Setting(
            graph="search_agent", config=self.config, policy=policy, dialect=self.dialect, tools=tools, name=way
        )
        started = time.perf_counter()
        if isinstance(policy, LockstepPolicy):
            made = in_own_loop(policy.run(self.tasks, setting, self.numbers))
        else:
            made = in_own_loop(gathered(self.tasks, setting, concurrent=len(self.tasks), numbers=self.numbers))
        seconds = time.perf_counter() - started
        failed = [one.trajectory.error for one in made if one.trajectory.error]
        if failed:
            raise RuntimeError(f"{len(failed)} rollouts failed; the first: {failed[0]}")
        steps = [step for one in made for step in one.trajectory.steps]
        waiting = {
            "policy": sum(step.seconds for step in steps if step.action is not None),
            "tools": sum(step.seconds for step in steps if step.action is None),
        }
        tokens = sum(sum(one.trajectory.mask) for one in made)
        return Measured(seconds, len(made), tokens, sum(sum(one.trajectory.calls().values()) for one in made), waiting)

    def _trl(self, tools: dict[str, LensTool]) -> Measured:
        processor, count = load_processor(self.folder), len(self.tasks)
        arguments = GRPOConfig(
            output_dir="unused",
            per_device_train_batch_size=count,
            num_generations=self.generations,
            max_steps=1,
            # TRL's budget of a whole completion, results included; ours has none here
            max_completion_length=4000,
            max_tool_calling_iterations=self.dialect.limits.turns,
            temperature=1.0,
            generation_kwargs={
                "max_new_tokens": self.max_new_tokens,
                "suppress_tokens": Renderer(processor).picture_tokens(),
            },
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = StockLoop.build(self.network, processor, self.distinct, tools, self.dialect, arguments)
        trainer.model.train()
        started = time.perf_counter()
        out = trainer._generate_and_score_completions([row(task) for task in self.tasks])
        seconds = time.perf_counter() - started
        trainer.model.eval()
        tokens = int((out["completion_mask"] * out["tool_mask"]).sum())
        return Measured(
            seconds, count, tokens, round(trainer._metrics["train"]["tools/call_frequency"][-1] * count), {}
        )


def table(found: dict[tuple[str, tuple[float, float]], list[Measured]], console: Console) -> list[dict[str, Any]]:
    """Print the figures; the same as plain rows."""
    shown = Table("tools take", "way", "seconds a round", "rollouts/s", "tokens/s", "calls", "ours is faster by")
    rows: list[dict[str, Any]] = []
    for (way, bounds), rounds in found.items():
        seconds = [one.seconds for one in rounds]
        ours = [one.seconds / one.tokens for one in found["graph", bounds]]
        ratios = [one.seconds / one.tokens / mine for one, mine in zip(rounds, ours, strict=True)]
        rows.append(
            {
                "way": way,
                "tool_seconds": list(bounds),
                "rounds": len(rounds),
                "seconds": [statistics.mean(seconds), min(seconds), max(seconds)],
                "rollouts_per_second": sum(one.rollouts for one in rounds) / sum(seconds),
                "tokens_per_second": sum(one.tokens for one in rounds) / sum(seconds),
                "tool_calls_per_rollout": sum(one.calls for one in rounds) / sum(one.rollouts for one in rounds),
                "slower_per_token_than_graph": [statistics.mean(ratios), min(ratios), max(ratios)],
                "waiting_per_rollout": {
                    kind: sum(one.waiting[kind] for one in rounds) / sum(one.rollouts for one in rounds)
                    for kind in (rounds[0].waiting or {})
                },
            }
        )
        last = rows[-1]
        low, high = bounds
        shown.add_row(
            "as they are" if high <= 0 else f"{low * 1000:.0f}-{high * 1000:.0f} ms more",
            way,
            "{:.2f} ({:.2f}-{:.2f})".format(*last["seconds"]),
            f"{last['rollouts_per_second']:.2f}",
            f"{last['tokens_per_second']:.0f}",
            f"{last['tool_calls_per_rollout']:.2f}",
            "" if way == "graph" else "{:.2f}x ({:.2f}-{:.2f})".format(*last["slower_per_token_than_graph"]),
        )
    console.print(shown)
    console.print("Ratios are seconds a sampled token, round by round, because sampled episodes differ in length.")
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m rl.throughput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="pocket", help="a checkpoint")
    parser.add_argument("--tasks", default="world/train", help="a task set's name or a .jsonl file")
    parser.add_argument("--limit", type=int, default=8, help="tasks")
    parser.add_argument("--generations", type=int, default=8, help="episodes of each task, all at once")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every way, after one to warm up")
    parser.add_argument("--slow", type=float, nargs=2, default=(0.05, 0.5), help="bounds of the slower tools, seconds")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="of one turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    console = Console()
    try:
        tasks = load_tasks(args.tasks, args.limit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    bench = Bench(args.policy, tasks, args.generations, load_config(), args.max_new_tokens)
    cases = [(way, bounds) for bounds in ((0.0, 0.0), tuple(args.slow)) for way in WAYS]
    found: dict[tuple[str, tuple[float, float]], list[Measured]] = {case: [] for case in cases}
    for number in range(args.rounds + 1):
        for way, bounds in cases:
            if number == 0 and bounds[1] > 0:
                continue  # warming up once is enough
            measured = bench.measure(way, bounds, number)
            if number:
                found[way, bounds].append(measured)
            console.print(
                f"round {number}  {way:8}  {measured.seconds:.2f} s  {measured.rollouts} rollouts", highlight=False
            )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    console.print(f"{device}; {len(tasks)} tasks x {args.generations} episodes; {args.rounds} rounds")
    rows = table(found, console)
    if args.json:
        args.json.write_text(
            json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=1), "utf-8"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
