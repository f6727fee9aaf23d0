"""`lensgraph index FOLDER`: index your own pictures and documents."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.graphs.program.failures import reported
from lensgraph.tools.documents.readers import READERS
from lensgraph.tools.local.index.build import PICTURES, default_folder, index_folder


@reported()
def run(given: argparse.Namespace) -> int:
    """Index the folder; an interrupted run goes on where it stopped."""
    out = given.out or default_folder(given.folder)
    columns = TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    description = TextColumn("{task.description}")
    with Progress(*columns, description, console=Console(stderr=True), transient=True) as bar:

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
