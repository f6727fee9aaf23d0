"""Values of a recipe that name a function of a table, or a function of one's own by its import path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lensgraph.agent.errors import UserError

Functions = Mapping[str, Callable[..., Any]]


def find(field: str, name: str, table: Functions) -> Callable[..., Any]:
    """The function of this name in the table, or the one at `package.module:function`.

    Raises:
        UserError: neither exists; the message is one line that names the recipe's `field` and the valid values.
    """
    if name in table:
        return table[name]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"{field}={name}: use one of {', '.join(table)}, or package.module:function of your own")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{field}={name}: {error}; give package.module:function") from error
    if not callable(function):
        raise UserError(f"{field}={name} is a {type(function).__name__}, not a function")
    return function


def described(table: Functions) -> str:
    """The description of the field that chooses: every name with the first sentence of its function."""
    first = {name: (inspect.getdoc(function) or "").partition("\n")[0] for name, function in table.items()}
    own = "`package.module:function`: a function of your own."
    return " ".join([*(f"`{name}`: {sentence}" for name, sentence in first.items()), own])
