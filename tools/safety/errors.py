"""An exception as one line for a person, a log or a trajectory."""

from __future__ import annotations

from lensgraph.tools.safety.redact import without_keys


def one_line(error: BaseException, limit: int = 200) -> str:
    """The error's text on one line without keys, cut to `limit` characters; the error's class where it has no text."""
    return " ".join(without_keys(str(error)).split())[:limit] or type(error).__name__
