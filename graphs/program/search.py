"""`lensgraph search INDEX --text WORDS | --image PICTURE`: search an index that `lensgraph index` wrote."""

from __future__ import annotations

import argparse
import sys

from lensgraph.graphs.program.commands import WrongUsage


def run(given: argparse.Namespace) -> int:
    """Check that words or a picture are given, then search. Exit code 1: nothing was found."""
    if (given.text is None) == (given.image is None):
        raise WrongUsage("give either --text WORDS or --image PICTURE")

    from lensgraph.agent.errors import UserError
    from lensgraph.tools.base import ImageSearch, TextSearch, render_search, wait_for
    from lensgraph.tools.registry import ToolConfigError, build
    from lensgraph.tools.runtime import output

    spec = {"use": "local", "index": given.index, "k": given.k}
    try:
        tool = build("image_search" if given.text is None else "text_search", spec)
    except ToolConfigError as error:
        raise UserError(str(error)) from error
    assert isinstance(tool, TextSearch | ImageSearch)
    result = wait_for(tool.search(given.image if given.text is None else given.text))
    if given.json:
        print(output.as_json(result.model_dump(mode="json", exclude={"hits": {"__all__": {"thumbnail"}}})))
    elif result.error is None:
        print(render_search(result))
    else:
        print(f"lensgraph search: {result.error.message}", file=sys.stderr)
    return 0 if result.error is None else 1 if result.error.reason == "empty" else 2
