"""`lensgraph config`, and the configuration of every other command: loaded, its names checked, printed.

Invariant: a wrong name of a graph, a policy, a provider or an option is an error before anything runs, also for a tool that
the question may never use. Nothing is built, so no service's key has to be set. The values of options are not checked here
but when policy and tool are built.
"""

from __future__ import annotations

import argparse

from lensgraph.agent import config as configuration
from lensgraph.agent.config import Config, ConfigError, PolicyConfig, ToolSpec
from lensgraph.graphs import table
from lensgraph.graphs.program.command_line import settings


def run(given: argparse.Namespace) -> int:
    """Print the effective configuration."""
    print(configuration.render(asked_config(given)), end="")
    return 0


def asked_config(given: argparse.Namespace) -> Config:
    """The configuration of a command line, checked.

    Raises:
        UserError: see `check`.
    """
    config = configuration.load_config(given.config, settings(given))
    check(config)
    return config


def check(config: Config) -> None:
    """Refuse unknown graphs, kinds and providers. Default values are skipped, so they cost no import.

    Raises:
        UserError: names the wrong setting and the valid names, in one line.
    """
    if config.graph not in table.GRAPHS:
        table.find(config.graph)
    if config.policy.kind != PolicyConfig().kind:
        from lensgraph.agent import policy

        policy.check_kind(config.policy.kind)
    for kind in table.ALL_TOOLS:
        spec: ToolSpec = getattr(config.tools, kind)
        if spec != ToolSpec():
            from lensgraph.tools import registry

            try:
                registry.check(kind, spec.model_dump())
            except registry.ToolConfigError as error:
                raise ConfigError(str(error)) from error
