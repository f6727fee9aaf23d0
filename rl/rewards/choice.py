"""Values of a recipe that name a row of a table, or a function of one's own by its import path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def find(field: str, name: str, rows: Mapping[str, T]) -> T | Callable[..., Any]:
    """The row of this name, or the function at `package.module:function`.

    Raises:
        ValueError: neither exists; the message is one line that names the recipe's `field` and the valid
        values.
    """
    if name in rows:
        return rows[name]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{field}={name}: use one of {', '.join(rows)}, or package.module:function of your own")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field}={name}: {error}; give package.module:function") from error
    if not callable(function):
        raise ValueError(f"{field}={name} is a {type(function).__name__}, not a function")
    return function


def described(rows: Mapping[str, Any]) -> str:
    """The rows with their summaries, as the description of the field that chooses one."""
    own = "or `package.module:function` of your own"
    return "; ".join([*(f"`{name}`: {row.summary}" for name, row in rows.items()), own]) + "."
