"""`lensgraph config`: print the effective configuration."""

from __future__ import annotations

import argparse

from lensgraph.agent import config as configuration
from lensgraph.graphs.program import commands, providers


def run(given: argparse.Namespace) -> int:
    """Load, check and print."""
    config = configuration.load(given.config, commands.settings(given))
    providers.check(config)
    print(configuration.render(config), end="")
    return 0
