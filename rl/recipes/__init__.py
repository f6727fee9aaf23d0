"""Recipes: every hyper-parameter of a run, as YAML beside this file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lensgraph.agent.config.problems import explain
from lensgraph.agent.errors import UserError
from lensgraph.tools.safety.one_line import one_line

FOLDER = Path(__file__).parent
M = TypeVar("M", bound=BaseModel)


class RecipeError(UserError):
    """A recipe that cannot be used. The message is one line that names the value and the fix."""


def names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(recipe: str, model: type[M], overrides: Iterable[str] = ()) -> M:
    """Read a shipped recipe by name, or a YAML file, with `key=value` and `key.key=value` on top.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value of the wrong type.
    """
    path = FOLDER / f"{recipe}.yaml" if recipe in names() else Path(recipe)
    if not path.is_file():
        raise RecipeError(f"no recipe {recipe!r}; use one of {', '.join(names())}, or the path of a YAML file")
    try:
        tree: Any = yaml.safe_load(path.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML ({one_line(error, 120)})") from error
    for override in overrides:
        dotted, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"{override!r} is not a setting; write it as key=value")
        *parents, last = dotted.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = yaml.safe_load(value)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{path.name}: {explain(error, model)}") from error
