"""`lensgraph ask PICTURE [PICTURE ...] "QUESTION" [key.key=value ...]`: reads the command line.

Invariant: everything that can be checked without reading a picture is checked before settings and pictures are read.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from lensgraph.graphs.program.command_line import WrongUsage

_SETTING = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)*=")


def run(given: argparse.Namespace) -> int:
    """Check the words, then answer."""
    pictures, question, settings = split(given.words)
    if not question.strip():
        raise WrongUsage("no question; write it in quotes behind the picture")
    if pictures and " " in pictures[0].strip() and os.path.isfile(question):
        raise WrongUsage(f"{question}: the picture stands in front of the question; exchange the two")
    for number, picture in enumerate(pictures):
        if not picture.strip().lower().startswith(("http://", "https://", "data:")):
            _check_file(picture, first=number == 0)

    from lensgraph.graphs.program import (
        run_question,  # settings and pictures are checked next, before the graph is imported
    )

    settings += given.set
    return run_question.ask(
        pictures, question, given.config, settings, as_json=given.json, show_raw=given.show_raw, approve=given.approve
    )


def split(words: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Pictures, question and settings. Words such as `limits.turns=2` behind the question are settings; the first two words
    are never settings, so a picture and a question may look like one."""
    end = len(words)
    while end > 2 and _SETTING.match(words[end - 1]):
        end -= 1
    if end == 1 and not os.path.exists(words[0]) and len(words[0].split()) > 1:
        return [], words[0], []  # a question without a picture: policies that answer only about pictures say so
    if end == 1:
        return [words[0]], "", []
    return list(words[: end - 1]), words[end - 1], list(words[end:])


def _check_file(name: str, *, first: bool) -> None:
    """Check a picture's path without reading the file.

    Raises:
        WrongUsage: no picture can be read there.
    """
    try:
        if not name.strip():
            raise WrongUsage(f"{name!r}: no name of a picture; give the path of one")
        path = Path(name).expanduser()
        if path.is_dir():
            raise WrongUsage(f"{name}: a folder; give the path of one picture")
        if not path.exists():
            # Behind the first picture it may be a question without quotes, or a setting in front of the question.
            rest = "" if first else ", put the whole question in quotes, and write settings behind it as key.key=value"
            raise WrongUsage(f"{name}: no such file; check the path{rest}")
        if not path.is_file():
            raise WrongUsage(f"{name}: a pipe or a device, not a file; save the picture and give its path")
        if path.stat().st_size == 0:
            raise WrongUsage(f"{name}: zero bytes; give a picture file")
    except WrongUsage:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # too long, unknown ~user, or a NUL in it
        raise WrongUsage(f"{name[:80]!r}: not a usable path ({error}); check the path") from error
