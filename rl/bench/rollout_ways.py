"""Five ways to roll the same policy out on the same tasks with the same tools.

- `graph`: this package's way. A waiting episode joins those that are sampled, so a slow tool delays no other episode.
  Sampling runs where training would run it: on a CPU in a process of its own, if there is a core for it.
- `thread`: the same, with sampling in a thread beside the graphs.
- `anew`: as `thread`, without reuse of earlier turns' keys and values.
- `lockstep`: the same graph, but the policy waits until every live episode waits for it (step-synchronous batching).
- `trl`: TRL's own tool loop (`environment_factory`), unmodified.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from trl import GRPOConfig

from lensgraph.agent.config import Config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.bench.lockstep import LockstepPolicy
from lensgraph.rl.bench.slow_tools import slowed
from lensgraph.rl.bench.trl_loop import TRLLoop, row
from lensgraph.rl.grpo.build_trainer import load_policy
from lensgraph.rl.network import checkpointing
from lensgraph.rl.rollout.episode import RolloutSetup, roll_in_order
from lensgraph.rl.rollout.own_loop import in_own_loop
from lensgraph.rl.sampler import process as sampler_process
from lensgraph.rl.sampler.process import ProcessPolicy, SamplerProcess
from lensgraph.rl.tasks import Task
from lensgraph.tools.base import LensTool

WAYS = ("graph", "thread", "anew", "lockstep", "trl")


@dataclass(frozen=True)
class RolloutRound:
    """One round of one way to roll out."""

    seconds: float
    """Wall time."""
    rollouts: int
    """Episodes."""
    tokens: int
    """Sampled tokens."""
    calls: int
    """Tool calls."""
    waiting: dict[str, float]
    """Seconds of waiting for the policy and for tools, summed over episodes. Empty if the loop does not report
    them."""


class RolloutBench:
    """The policy, the tools and the tasks that all ways share."""

    def __init__(self, policy: str, tasks: list[Task], generations: int, config: Config, max_new_tokens: int) -> None:
        self.tasks = [task for task in tasks for _ in range(generations)]
        self.numbers = [n for _ in tasks for n in range(generations)]
        self.distinct, self.generations, self.config, self.max_new_tokens = tasks, generations, config, max_new_tokens
        self.folder = Path(checkpoint(policy))
        self.network = load_policy(self.folder).eval()
        self.processor = load_processor(self.folder)
        self.sampler = sampler_process.faster_place(self.network)
        self._process: SamplerProcess | None = None
        backends = Backends(Context(config=config))
        self.dialect: Dialect = backends.dialect

        async def tools() -> dict[str, LensTool]:
            names = ("text_search", "image_search", "locate")
            return {name: await backends.tool(name) for name in names}  # type: ignore[arg-type]

        self.tools = asyncio.run(tools())

    def measure(self, way: str, bounds: tuple[float, float], concurrent: int, seed: int) -> RolloutRound:
        """One round of all episodes, `concurrent` at a time."""
        torch.manual_seed(seed)
        tools = slowed(self.tools, bounds, seed)
        return self._trl(tools, concurrent) if way == "trl" else self._graph(way, tools, concurrent)

    def _graph(self, way: str, tools: dict[str, LensTool], concurrent: int) -> RolloutRound:
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
        return RolloutRound(
            seconds, len(made), tokens, sum(sum(one.trajectory.calls().values()) for one in made), waiting
        )

    def close(self) -> None:
        """End the process that samples."""
        if self._process is not None:
            self._process.close()

    def _trl(self, tools: dict[str, LensTool], concurrent: int) -> RolloutRound:
        processor = load_processor(self.folder)  # TRL's loop changes its processor
        arguments = GRPOConfig(
            output_dir="unused",
            per_device_train_batch_size=concurrent,
            num_generations=self.generations,
            max_steps=1,
            # TRL counts a whole completion, results included; large enough for every episode here
            max_completion_length=4000,
            max_tool_calling_iterations=self.dialect.limits.turns,
            temperature=1.0,
            generation_kwargs={
                "max_new_tokens": self.max_new_tokens,
                "suppress_tokens": Renderer(processor).picture_tokens(),
            },
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            **checkpointing.argument(False),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = TRLLoop.build(self.network, processor, self.distinct, tools, self.dialect, arguments)
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
        return RolloutRound(seconds, len(self.tasks), tokens, calls, {})
