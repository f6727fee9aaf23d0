"""Standard output of a program: it takes every character, and does not crash when it is closed, full or cut off.

Invariant: a program that ran under `guarded` and could not write its output never exits with 0, and says why in one line. Only
a reader that has seen enough (`| head -1`) is no error, and nothing is said about it.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

OF_OUTPUT = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})
"""Errors of writing to standard output."""
LOST = 2
"""Exit code when the output could not be written."""
CUT_OFF = 141
"""Exit code when the reader of a pipe went away: the one that a shell shows for a program that SIGPIPE ended."""


def guarded(program: str, work: Callable[[], int]) -> int:
    """`work()`, whose result is the exit code. Characters that an output cannot encode are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # Python's own sign for a descriptor that was closed at the start
        return _say(program, "standard output is closed; send it to a file or a terminal")
    try:
        try:
            return work()
        finally:
            sys.stdout.flush()  # the rest of the buffer would be lost after the exit code is settled
    except OSError as error:
        if error.errno not in OF_OUTPUT or not _stuck():
            raise
        if isinstance(error, BrokenPipeError):
            return CUT_OFF
        return _say(program, f"standard output cannot be written ({error.strerror}); make room, or send it elsewhere")


def as_json(value: Any) -> str:
    """One line of JSON. Where standard output does not take every character, others than ASCII are written as JSON's own
    escapes; those that Python would write are no JSON."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return json.dumps(value, ensure_ascii=encoding.lower().replace("-", "") not in ("utf8", "utf8sig"))


def _stuck() -> bool:
    """Whether standard output is what failed, found by writing one more line. It is then redirected to nowhere, so that the
    interpreter does not try a last time at its exit."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _say(program: str, problem: str) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"{program}: {problem}\n")
    return LOST
