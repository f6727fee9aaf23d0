"""An exception as one line for a person, a log or a trajectory.

Invariant: nothing that looks like a key, and no login of an address, stands in such a line (`redact.without_keys`).
"""

from __future__ import annotations

from lensgraph.tools.safety.redact import without_keys


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


def _text(error: BaseException, limit: int, first: bool) -> str:
    text = without_keys(str(error)).strip()
    return " ".join(text.splitlines()[:1] if first else text.split())[:limit]
