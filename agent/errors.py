"""Errors of the person who asks or configures; a program's own errors are ordinary exceptions."""

from __future__ import annotations

from lensgraph.tools.safety.redact import without_logins


class UserError(ValueError):
    """Input or settings that cannot be used. The message is one line that names the value and the fix, and of an address
    neither user nor password."""

    def __init__(self, message: str) -> None:
        super().__init__(without_logins(message))


class BadInput(UserError):
    """The question or a picture cannot be used."""
