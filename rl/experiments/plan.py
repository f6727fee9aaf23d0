"""The plan of experiments: `plan.yaml` as typed values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from lensgraph.agent.errors import UserError

PLAN = Path(__file__).parent / "plan.yaml"


class Experiment(BaseModel):
    """One line of a table."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    train: dict[str, Any] | None = None
    """Values of the recipe to replace. None: nothing is trained, and the policy is the plan's `start_from`."""
    policy_of: str | None = None
    """Name of another experiment whose policies are evaluated."""
    graph: str = "search_agent"
    """The graph to evaluate."""
    seeds: list[int] | None = None
    """Seeds; None: the plan's."""
    limit: int | None = None
    """Number of tasks; None: the plan's. Differences are over the tasks that both experiments have."""


class Plan(BaseModel):
    """All experiments, and the tables that show them."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    recipe: str = "world_grpo"
    """Recipe that every training run begins with."""
    start_from: str = "pocket-cold-start"
    """Policy that the recipe trains, to evaluate where nothing is trained."""
    tasks: str = "world/test"
    """Task set that every policy is measured on."""
    limit: int = 400
    """Number of tasks."""
    seeds: list[int] = [0, 1, 2]
    """Seeds of every training run."""
    experiments: dict[str, Experiment]
    """Experiments by name."""
    tables: dict[str, list[str]]
    """Title -> the experiments in the table; differences are to the first."""
    curve: list[str] = []
    """Experiments on the plot of accuracy against searches."""


def read_plan(path: Path = PLAN) -> Plan:
    """The plan in a file.

    Raises:
        ValueError: a table, the curve or an experiment names an experiment that the plan does not have.
    """
    plan = Plan.model_validate(yaml.safe_load(path.read_text("utf-8")))
    named = {name for names in plan.tables.values() for name in names} | set(plan.curve)
    named |= {one.policy_of for one in plan.experiments.values() if one.policy_of}
    if unknown := sorted(named - set(plan.experiments)):
        raise UserError(f"{path.name}: no experiment {', '.join(unknown)}; there are {', '.join(plan.experiments)}")
    return plan
