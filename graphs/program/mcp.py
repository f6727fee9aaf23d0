"""`lensgraph mcp`: reads the command line; `mcp_server` is the server."""

from __future__ import annotations

import argparse
from pathlib import Path

from lensgraph.graphs.program.commands import WrongUsage


def run(given: argparse.Namespace) -> int:
    """Check folder and port, then the settings, then serve until stopped."""
    if given.files is not None and not Path(given.files).expanduser().is_dir():
        raise WrongUsage(f"--files {given.files}: no such folder; make it or correct the path")
    if given.http is not None and not 0 < given.http < 65536:
        raise WrongUsage(f"--http {given.http}: no port; give 1 to 65535")

    from lensgraph.graphs.program import config

    settings = config.asked_config(given)

    from lensgraph.graphs.program import mcp_server  # imports LangGraph

    mcp_server.run(settings, port=given.http, files=given.files, threads=given.threads)
    return 0
