"""`lensgraph serve`: reads the command line; `serving.run_server` starts the server."""

from __future__ import annotations

import argparse

from lensgraph.graphs.program.command_line import WrongUsage, settings


def run(given: argparse.Namespace) -> int:
    """Check the numbers, then start the engine."""
    if given.gpus is not None and given.gpus < 0:
        raise WrongUsage(f"--gpus {given.gpus}: must be 0 or more")
    if given.wait <= 0:
        raise WrongUsage(f"--wait {given.wait:g}: must be more than 0 seconds")

    from lensgraph.graphs.program.serving import run_server

    return run_server.main(
        given.config, settings(given), gpus=given.gpus, wait=given.wait, further=given.vllm,
        only_print=given.only_print, engine=given.engine,
    )  # fmt: skip
