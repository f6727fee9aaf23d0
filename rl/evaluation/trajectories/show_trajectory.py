"""One trajectory in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStep


def show(trajectory: Trajectory, console: Console) -> None:
    """Print a trajectory, step by step."""
    head = f"{trajectory.id}  {trajectory.graph} in {trajectory.dialect}  policy {trajectory.policy or '-'}"
    console.print(Panel(Text(f"{trajectory.question}\ngold: {' | '.join(trajectory.golds[:4])}"), title=head))
    for step in trajectory.steps:
        console.print(Text(_line(step), style="bold" if step.action else "dim"))
        if step.text:
            console.print(Text(f"    {step.text}"))
        for hit in step.hits or ():
            console.print(Text(f"    - {hit['title']}: {hit['snippet'][:120]}", style="dim"))
        if step.error:
            console.print(Text(f"    {step.error}", style="red"))
    verdict = "right" if trajectory.correct else "wrong"
    console.print(Text(f"answer: {trajectory.answer!r} ({verdict}, {trajectory.stop_reason or trajectory.error})"))
    sampled = sum(trajectory.mask)
    parts = ", ".join(f"{name} {value:.3f}" for name, value in (trajectory.reward or {}).items()) or "none"
    tokens = f"tokens: {len(trajectory.ids)}, {sampled} sampled"
    console.print(Text(f"reward: {parts}   {tokens}   pictures: {len(trajectory.pictures)}"))


def _line(step: TrajectoryStep) -> str:
    where = f" box {tuple(step.crop['box'])}" if step.crop and step.crop.get("box") else ""
    what = f" {step.query!r}" if step.query else ""
    tokens = f"  tokens {step.tokens[0]}-{step.tokens[1]}" if step.tokens else ""
    edge = f" -> {step.edge}" if step.edge else ""
    return f"{step.turn}. {step.node}: {step.kind}{what}{where}{edge}  {step.seconds:.3f} s  {step.price:g}{tokens}"
