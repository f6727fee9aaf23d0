"""`python -m lensgraph.tools.local index FOLDER` and `python -m lensgraph.tools.local search INDEX --text WORDS | --image PICTURE`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lensgraph.tools.results import ToolFailure
from lensgraph.tools.runtime import loops, output


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 fine, 1 nothing found, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.tools.local", description="Search your own pictures and papers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="index a folder, or bring its index up to date")
    index.add_argument("folder", type=Path, help="folder with pictures and documents (txt, md, html, pdf)")
    index.add_argument("--out", type=Path, help="where the index goes (default: the cache folder)")
    index.add_argument("--embedder", help="embedded (default), transformers:NAME, or package.module:Class")
    search = commands.add_parser("search", help="search an index")
    search.add_argument("index", type=Path, help="folder that `index` wrote")
    what = search.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="words to look for")
    what.add_argument("--image", help="picture to look for: a path or an address")
    search.add_argument("-k", type=int, default=5, help="how many results (default 5)")
    search.add_argument("--json", action="store_true", help="print the result as one JSON object")
    chosen = parser.parse_args(arguments)
    code = output.guarded(parser.prog, lambda: _run(chosen))
    return loops.leave(code) if arguments is None else code  # with arguments it is called by another program


def _run(chosen: argparse.Namespace) -> int:
    try:
        return _index(chosen) if chosen.command == "index" else _search(chosen)
    except ToolFailure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 130


def _index(chosen: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lensgraph.tools.documents.readers import READERS
    from lensgraph.tools.local.index.build import PICTURES, default_folder, index_folder

    out = chosen.out or default_folder(chosen.folder)
    with Progress(
        TextColumn("Indexing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:

        def track(paths: Iterable[str]) -> Iterator[str]:
            todo = list(paths)
            task = bar.add_task("", total=len(todo))
            for path in todo:
                bar.update(task, description=path[-40:])
                yield path
                bar.advance(task)

        report = index_folder(chosen.folder, out, embedder=chosen.embedder, progress=track)
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


def _search(chosen: argparse.Namespace) -> int:
    from lensgraph.tools.base import ImageSearch, TextSearch, render_search, wait_for
    from lensgraph.tools.registry import ToolConfigError, build

    kind = "text_search" if chosen.text is not None else "image_search"
    try:
        tool = build(kind, {"use": "local", "index": chosen.index, "k": chosen.k})  # type: ignore[arg-type]
    except ToolConfigError as error:
        raise ToolFailure("bad_input", str(error)) from error
    assert isinstance(tool, TextSearch | ImageSearch)
    result = wait_for(tool.search(chosen.text if chosen.text is not None else chosen.image))
    if chosen.json:
        print(output.as_json(result.model_dump(mode="json", exclude={"hits": {"__all__": {"thumbnail"}}})))
    elif result.error is None:
        print(render_search(result))
    else:
        print(f"error: {result.error.message}", file=sys.stderr)
    if result.error is None:
        return 0
    return 1 if result.error.reason == "empty" else 2


if __name__ == "__main__":
    sys.exit(main())
