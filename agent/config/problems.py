"""A wrong setting, told in one line: the setting, its value, what is valid."""

from __future__ import annotations

import difflib

from pydantic import BaseModel, ValidationError

from lensgraph.agent.config.schema import section_at
from lensgraph.agent.errors import UserError
from lensgraph.tools.safety.one_line import first_problem
from lensgraph.tools.safety.redact import HIDDEN, looks_like_key, shown


class ConfigError(UserError):
    """A setting that cannot be used."""


def explain(error: ValidationError, section: type[BaseModel] | None = None, above: tuple[str, ...] = ()) -> str:
    """The first problem in one line. `section` was checked, the whole tree if None; `above` is the path that leads to it."""
    problem = error.errors(include_url=False)[0]
    inside = [str(part) for part in problem["loc"]]
    where = [*above, *inside]
    name = ".".join(HIDDEN if looks_like_key(part) else part for part in where)
    if problem["type"] == "extra_forbidden":
        valid = section_at(inside[:-1], section).model_fields
        close = difflib.get_close_matches(where[-1], valid, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        place = f" of {'.'.join(where[:-1])}" if where[:-1] else ""
        return f"{name}: unknown key; {hint}Valid keys{place}: {', '.join(valid)}."
    if problem["type"] == "model_type":
        below = ", ".join(f"{name}.{key}" for key in section_at(inside, section).model_fields)
        return f"{name}={shown(where, problem['input'])}: has settings below it; set one of them: {below}."
    return f"{first_problem(error, above)}."
