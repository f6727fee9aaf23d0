"""Errors of the person who asks or configures; a program's own errors are ordinary exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.redact import without_logins
from lensgraph.tools.safety.surrogates import whole


class UserError(ValueError):
    """Input or settings that cannot be used. The message is one line that names the value and the fix, and of an address
    neither user nor password."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(whole(without_logins(message)).splitlines()))


class BadInput(UserError):
    """The question or a picture cannot be used."""


class StorageError(UserError):
    """A folder or a disk on which a run depends cannot be used. The thread stays as it is, and goes on when that is mended."""


@contextmanager
def keeping(folder: Path, setting: str) -> Iterator[None]:
    """Turn the system's refusal to read or write below `folder`, which `setting` names, into one line.

    Raises:
        StorageError: an `OSError` came up in the block (a full disk, a folder that is gone or may not be written, a wait for a
            lock), or the file system knows no locks.
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise StorageError(
            f"{folder}: cannot be used ({why}); make room or mend the folder ({setting}), then ask again or go on with the "
            "thread."
        ) from error
