"""An exception as one line for a person, a log or a trajectory.

Invariant: nothing that looks like a key, and no login of an address, stands in such a line (`redact.without_keys`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lensgraph.tools.safety.redact import HIDDEN, looks_like_key, shown, without_keys

if TYPE_CHECKING:
    from pydantic import ValidationError


def one_line(error: BaseException, limit: int = 200, *, first: bool = False) -> str:
    """The text of an error on one line, without keys and cut to `limit` characters; its class where it has no text.

    `first`: only the first line of several, for foreign errors whose further lines repeat their input (pydantic) or advise
    at length (torch).
    """
    return _text(error, limit, first) or type(error).__name__


def named_line(error: BaseException, limit: int = 200, *, first: bool = False) -> str:
    """As `one_line`, with the class before the text: `ValueError: no such file`."""
    text = _text(error, limit, first)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_problem(error: ValidationError, above: Sequence[str] = ()) -> str:
    """The first problem that pydantic found: the field, its value unless it may hold a secret, and what is wrong with it.

    `above` is the path that leads to the part of a larger whole that was checked.
    """
    problem = error.errors(include_url=False)[0]
    where = [*above, *map(str, problem["loc"])]
    name = ".".join(HIDDEN if looks_like_key(part) else part for part in where)
    if problem["type"] == "missing":
        return f"{name} is missing; set it"
    message = problem["msg"].removeprefix("Value error, ")
    value = shown(where, problem["input"])
    return f"{name}={value if len(value) <= 80 else value[:77] + '...'}: {message}" if where else message


def _text(error: BaseException, limit: int, first: bool) -> str:
    text = without_keys(str(error)).strip()
    return " ".join(text.splitlines()[:1] if first else text.split())[:limit]
