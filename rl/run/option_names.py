"""Names of options that go through to a library, checked before they get there."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

FEW = 60
"""Up to so many valid names are all listed."""


def check(field: str, given: Iterable[str], valid: Collection[str], where: str) -> None:
    """Refuse a name that the library does not have; `where` is what has the names, such as a class of it.

    Raises:
        ValueError: the message is one line with the closest valid name.
    """
    for name in given:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            names = ", ".join(sorted(valid)) if len(valid) <= FEW else "its fields"
            raise ValueError(f"{field}.{name}: {where} has no such option; {hint}Valid: {names}")
