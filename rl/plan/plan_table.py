"""`python -m lensgraph.rl.train --plan`: the memory of a recipe as a table, and whether it fits."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from lensgraph.agent.errors import UserError
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.network.memory import device_bytes
from lensgraph.rl.plan.memory_plan import MemoryPlan, memory_plan

GIB = 2**30
LEAST = 0.05
"""Share of a device that is left free: allocations do not pack."""


def show_plan(recipe: GRPORecipe, card: float | None) -> None:
    """Print the plan of a recipe for a device of `card` GiB; None: for the one that is here, or for this CPU.

    Raises:
        UserError: it cannot fit; the message names the largest parts and what would make them smaller.
    """
    gpu = card is not None or torch.cuda.is_available()
    room = device_bytes() if card is None else card * GIB
    plan = memory_plan(recipe, room, gpu=gpu)
    table = Table(title=f"{recipe.start_from}: memory of one {'GPU' if gpu else 'process on a CPU'}")
    for name, side in (("part", "left"), ("GiB", "right"), ("when", "left"), ("of", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for part in plan.parts:
        table.add_row(part.name, f"{part.bytes / GIB:.2f}", part.phase, part.why)
    table.add_section()
    table.add_row("the most at one time", f"{plan.bytes / GIB:.2f}", "", f"of {room / GIB:.1f}")
    Console().print(table)
    if plan.bytes > (1 - LEAST) * room:
        raise UserError(refusal(recipe, plan, room))


def refusal(recipe: GRPORecipe, plan: MemoryPlan, room: float) -> str:
    """One line: what is too large, and what to change."""
    largest = sorted(plan.parts, key=lambda part: -part.bytes)[:3]
    named = ", ".join(f"{part.name} {part.bytes / GIB:.1f}" for part in largest)
    advice = [
        *(["lora={r: 16}"] if recipe.lora is None else []),
        *(["beta=0"] if any(part.name == "reference" for part in plan.parts) else []),
        *(["batch=1"] if recipe.batch > 1 else []),
        "a smaller max_tokens",
        *(["vllm=server on another device"] if recipe.vllm == "colocate" else []),
        "a larger card, or a smaller model",
    ]
    return (
        f"does not fit: {plan.bytes / GIB:.1f} GiB of {room / GIB:.1f} GiB, {LEAST:.0%} to be left free ({named}); "
        f"try {', '.join(advice)}"
    )
