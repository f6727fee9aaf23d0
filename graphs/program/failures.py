"""A tool's failure as an error of the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lensgraph.agent.errors import UserError
from lensgraph.tools.results import ToolFailure


@contextmanager
def reported() -> Iterator[None]:
    """Raise `UserError` for a `ToolFailure`: the program prints its line and exits with 2."""
    try:
        yield
    except ToolFailure as error:
        raise UserError(str(error)) from error
