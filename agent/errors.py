"""What a person did wrong, as opposed to what a program did wrong."""

from __future__ import annotations


class UserError(ValueError):
    """Input or settings that cannot be used. The message is one line that names the value and the fix."""
