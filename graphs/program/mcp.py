"""`lensgraph mcp`: reads the command line; `mcp_server` is the server."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.command_line import WrongUsage


def run(given: argparse.Namespace) -> int:
    """Check folder, port and token, then the settings, then serve until stopped."""
    if given.pictures is not None and not Path(given.pictures).expanduser().is_dir():
        raise WrongUsage(f"--pictures {given.pictures}: no such folder; make it or correct the path")
    if given.http is not None and not 0 < given.http < 65536:
        raise WrongUsage(f"--http {given.http}: no port; give 1 to 65535")
    if given.token_env is not None and given.http is None:
        raise WrongUsage(f"--token-env {given.token_env[:60]}: only HTTP has a token; add --http PORT, or leave it out")

    from lensgraph.graphs.program import config

    settings = config.asked_config(given)
    if find_spec("mcp") is None:
        raise UserError("the MCP server needs a package: pip install '.[mcp]' in a clone of LensGraph")

    from lensgraph.graphs.program.mcp_server import serving  # imports LangGraph and the protocol's SDK

    token = None if given.token_env is None else serving.token_of(given.token_env)
    serving.run(settings, port=given.http, pictures=given.pictures, threads=given.threads, token=token)
    return 0
