"""`lensgraph index`, `search` and `world ...`: the local engine, on your own files and on the embedded world."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.command_line import WrongUsage


def index(given: argparse.Namespace) -> int:
    """Index a folder; an interrupted run goes on where it stopped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lensgraph.tools.documents.readers import READERS
    from lensgraph.tools.local.index.index_folder import PICTURES, default_folder, index_folder

    out = given.out or default_folder(given.folder)
    columns = TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    current = TextColumn("{task.description}")
    with _failures(), Progress(*columns, current, console=Console(stderr=True), transient=True) as bar:

        def track(paths: Iterable[str]) -> Iterator[str]:
            todo = list(paths)
            task = bar.add_task("", total=len(todo))
            for path in todo:
                bar.update(task, description=path[-40:])
                yield path
                bar.advance(task)

        try:
            report = index_folder(given.folder, out, embedder=given.embedder, progress=track)
        except KeyboardInterrupt:
            print("stopped; run the same command to go on", file=sys.stderr)
            raise
    for path, problem in sorted(report.problems.items()):
        print(f"skipped {path}: {problem}", file=sys.stderr)
    if report.passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.passed_over.items()))
        print(f"not read: {kinds}; read are {', '.join(sorted(PICTURES | set(READERS)))}", file=sys.stderr)
    print(
        f"{report.added} files indexed, {report.kept} unchanged, {report.removed} removed, "
        f"{len(report.problems)} skipped: {out}"
    )
    # In full: a configuration is read from other folders than this one.
    print(f'use it in a configuration with {{"use": "local", "index": {json.dumps(str(out.expanduser().resolve()))}}}')
    return 0


def search(given: argparse.Namespace) -> int:
    """Search an index by words or by picture. Exit code 1: nothing was found."""
    if (given.text is None) == (given.image is None):
        raise WrongUsage("give either --text WORDS or --image PICTURE")

    from lensgraph.agent.images import names_file
    from lensgraph.tools.base import ImageSearch, TextSearch, render_search, wait_for
    from lensgraph.tools.registry import ToolConfigError, build
    from lensgraph.tools.runtime import output

    spec = {"use": "local", "index": given.index, "k": given.k}
    try:
        tool = build("image_search" if given.text is None else "text_search", spec)
    except ToolConfigError as error:
        raise UserError(str(error)) from error
    assert isinstance(tool, TextSearch | ImageSearch)
    picture: Any = Path(given.image) if names_file(given.image) else given.image
    result = wait_for(tool.search(picture if given.text is None else given.text))
    if given.json:
        print(output.as_json(result.model_dump(mode="json", exclude={"hits": {"__all__": {"thumbnail"}}})))
    elif result.error is None:
        print(render_search(result))
    else:
        print(f"lensgraph search: {result.error.message}", file=sys.stderr)
    return 0 if result.error is None else 1 if result.error.reason == "empty" else 2


def world_card(given: argparse.Namespace) -> int:
    """Print the embedded world's card, and write it to a file if one is named."""
    from lensgraph.tools.local.world.figures.card import SAMPLE, markdown

    with _failures():
        text = markdown(None if given.all else SAMPLE)
    print(text, end="")
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


def world_index(given: argparse.Namespace) -> int:
    """Build the embedded world's index, if there is none, and print its folder."""
    from lensgraph.tools.local.world.world_index import ensure

    with _failures():
        print(ensure())
    return 0


def world_verify(given: argparse.Namespace) -> int:
    """Store which lay wordings mislead the engine, and print a count for each wording."""
    from lensgraph.tools.local.world.figures.corrections import verify

    with _failures():
        for wording, (missed, asked) in verify().items():
            print(f"{wording:24s} {missed:4d} of {asked:4d} miss")
    return 0


@contextmanager
def _failures() -> Iterator[None]:
    """Raise `UserError` for a tool's failure: the program prints its line and exits with 2."""
    from lensgraph.tools.results import ToolFailure

    try:
        yield
    except ToolFailure as error:
        raise UserError(str(error)) from error
