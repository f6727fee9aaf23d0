"""`python -m lensgraph.rl throughput`: how fast rollouts are made, beside the alternatives, in one run.

    python -m lensgraph.rl throughput --json throughput.json

Five ways to roll the same policy out on the same tasks with the same tools:

- `graph`: ours. Whoever waits for the policy joins those that are sampled; a slow tool holds up nobody. Sampled where training
  would sample: on a CPU in a process of its own, if there is a core for it.
- `thread`: the same, sampled in a thread beside the graphs.
- `anew`: as `thread`, but nothing that was computed for earlier turns is kept.
- `lockstep`: the same graph, but the policy waits until every live episode waits for it (step-synchronous batching).
- `trl`: TRL's own tool loop (`environment_factory`), untouched.

Each with tools as they are, and with tools that take longer (uniformly between two bounds, as over a network), and with few
or many episodes at a time, as memory allows on a GPU: `graph` begins another episode when one ends, the others when all have.
Rounds of the ways alternate, so that what else the machine does hits all of them; figures are means over rounds with their
range.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import PrivateAttr
from rich.console import Console
from rich.table import Table
from trl import GRPOConfig

from lensgraph.agent.config import Config
from lensgraph.agent.config import load as load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.qwen.transformers import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.bench.lockstep import LockstepPolicy
from lensgraph.rl.bench.trl_loop import StockLoop, row
from lensgraph.rl.grpo.build import load_policy
from lensgraph.rl.rollout.episode import RolloutSetup, roll_in_order
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.sampler import process as sampler_process
from lensgraph.rl.sampler.process import ProcessPolicy, SamplerProcess
from lensgraph.rl.tasks import Task, load_tasks
from lensgraph.tools.base import ImageSearch, LensTool, TextSearch
from lensgraph.tools.results import SearchResult

WAYS = ("graph", "thread", "anew", "lockstep", "trl")


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


Case = tuple[str, tuple[float, float], int]
"""Way, bounds of the tools' extra seconds, episodes at a time."""


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

    def __init__(
        self,
        policy: str,
        tasks: list[Task],
        generations: int,
        config: Config,
        max_new_tokens: int,
        concurrent: int | None = None,
    ) -> None:
        self.tasks = [task for task in tasks for _ in range(generations)]
        self.numbers = [n for _ in tasks for n in range(generations)]
        concurrent = concurrent or len(self.tasks)
        self.distinct, self.generations, self.config, self.max_new_tokens = tasks, generations, config, max_new_tokens
        self.folder = Path(checkpoint(policy))
        self.network = load_policy(self.folder).eval()
        self.processor = load_processor(self.folder)
        self.sampler = sampler_process.faster_place(self.network)
        self._process: SamplerProcess | None = None
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

    def measure(self, way: str, bounds: tuple[float, float], concurrent: int, seed: int) -> Measured:
        """One round of all episodes, `concurrent` at a time."""
        torch.manual_seed(seed)
        tools = self.slowed(bounds, seed)
        return self._trl(tools, concurrent) if way == "trl" else self._graph(way, tools, concurrent)

    def _graph(self, way: str, tools: dict[str, LensTool], concurrent: int) -> Measured:
        kind = {"lockstep": LockstepPolicy, "graph": ProcessPolicy}.get(way, TransformersPolicy)
        policy = kind(model="bench", temperature=1.0, max_new_tokens=self.max_new_tokens, max_batch=concurrent)
        if way == "anew":
            policy.reuse_bytes = 0
        policy.attach(self.network, Renderer(self.processor))
        if isinstance(policy, ProcessPolicy) and self.sampler == "process":
            self._process = self._process or SamplerProcess(self.network, self.processor)
            policy.through(self._process)
        setup = RolloutSetup(
            graph="search_agent", config=self.config, policy=policy, dialect=self.dialect, tools=tools, name=way
        )
        started = time.perf_counter()
        if isinstance(policy, LockstepPolicy):
            made = in_own_loop(policy.run(self.tasks, setup, self.numbers, concurrent))
        else:
            made = in_own_loop(roll_in_order(self.tasks, setup, concurrent=concurrent, numbers=self.numbers))
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

    def close(self) -> None:
        """End the process that samples."""
        if self._process is not None:
            self._process.close()

    def _trl(self, tools: dict[str, LensTool], concurrent: int) -> Measured:
        processor = load_processor(self.folder)  # its own: TRL's loop changes it
        arguments = GRPOConfig(
            output_dir="unused",
            per_device_train_batch_size=concurrent,
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
        tokens = calls = 0
        started = time.perf_counter()
        for start in range(0, len(self.tasks), concurrent):
            some = self.tasks[start : start + concurrent]
            out = trainer._generate_and_score_completions([row(task) for task in some])
            tokens += int((out["completion_mask"] * out["tool_mask"]).sum())
            calls += round(trainer._metrics["train"]["tools/call_frequency"][-1] * len(some))
        seconds = time.perf_counter() - started
        trainer.model.eval()
        return Measured(seconds, len(self.tasks), tokens, calls, {})


def table(found: dict[Case, list[Measured]], console: Console) -> list[dict[str, Any]]:
    """Print the figures; the same as plain rows."""
    shown = Table(
        "tools take", "at a time", "way", "seconds a round", "rollouts/s", "tokens/s", "calls", "ours is faster by"
    )
    rows: list[dict[str, Any]] = []
    for (way, bounds, concurrent), rounds in found.items():
        seconds = [one.seconds for one in rounds]
        ours = [one.seconds / one.tokens for one in found["graph", bounds, concurrent]]
        ratios = [one.seconds / one.tokens / mine for one, mine in zip(rounds, ours, strict=True)]
        rows.append(
            {
                "way": way,
                "tool_seconds": list(bounds),
                "concurrent": concurrent,
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
            str(concurrent),
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


def markdown(rows: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| tools take | at a time | way | seconds a round | rollouts/s | tokens/s | `graph` faster by | waiting an episode, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        low, high = one["tool_seconds"]
        tools = "as they are" if high <= 0 else f"{low * 1000:.0f}-{high * 1000:.0f} ms more"
        seconds = "{:.1f} ({:.1f}-{:.1f})".format(*one["seconds"])
        ratio = "" if one["way"] == "graph" else "{:.2f}x ({:.2f}-{:.2f})".format(*one["slower_per_token_than_graph"])
        waiting = ", ".join(f"{kind} {value:.2f}" for kind, value in one["waiting_per_rollout"].items())
        cells = (
            tools, str(one["concurrent"]), one["way"], seconds, f"{one['rollouts_per_second']:.1f}",
            f"{one['tokens_per_second']:.0f}", ratio, waiting,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.rl throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", default="pocket", help="a checkpoint")
    parser.add_argument("--tasks", default="world/train", help="a task set's name or a .jsonl file")
    parser.add_argument("--limit", type=int, default=8, help="tasks")
    parser.add_argument("--generations", type=int, default=8, help="episodes of each task, all at once")
    parser.add_argument("--concurrent", type=int, nargs="+", help="episodes at a time; all, unless given")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="beside `graph`, which is always measured"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every way, after one to warm up")
    parser.add_argument("--slow", type=float, nargs=2, default=(0.05, 0.5), help="bounds of the slower tools, seconds")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="of one turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write them here as a table")
    args = parser.parse_args(argv)
    console = Console()
    try:
        tasks = load_tasks(args.tasks, args.limit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    bench = Bench(args.policy, tasks, args.generations, load_config(), args.max_new_tokens, args.concurrent)
    levels = args.concurrent or [len(bench.tasks)]
    if wrong := [level for level in levels if level < 1 or level % args.generations or len(bench.tasks) % level]:
        print(
            f"--concurrent {wrong[0]}: give a multiple of --generations ({args.generations}) that divides the "
            f"{len(bench.tasks)} episodes",
            file=sys.stderr,
        )
        return 2
    ways = [way for way in WAYS if way == "graph" or way in args.ways]
    bounds = [(0.0, 0.0), (args.slow[0], args.slow[1])]
    found: dict[Case, list[Measured]] = {(w, b, c): [] for b in bounds for c in levels for w in ways}
    for number in range(args.rounds + 1):
        for case in found:
            way, slow, concurrent = case
            if number == 0 and (slow[1] > 0 or concurrent != levels[0]):
                continue  # warming up once is enough
            measured = bench.measure(way, slow, concurrent, number)
            if number:
                found[case].append(measured)
            console.print(
                f"round {number}  {concurrent:3} at a time  {way:8}  {measured.seconds:.2f} s  {measured.rollouts} rollouts",
                highlight=False,
            )
    bench.close()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    console.print(
        f"{device}; {len(tasks)} tasks x {args.generations} episodes; {args.rounds} rounds; "
        f"`graph` samples in a {bench.sampler}"
    )
    rows = table(found, console)
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
