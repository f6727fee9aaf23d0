"""Whether there is what a configuration names: the kind of policy, and the provider of every tool with its options.

Invariant: what is wrong is said before anything runs, also about a tool that the question may never use; nothing is built for
it, so no service's key has to be there. Not covered: the values of options, which a policy and a tool check when they are built.
"""

from __future__ import annotations

from lensgraph.agent.config import Config, ConfigError, PolicyConfig, ToolSpec
from lensgraph.graphs import table


def check(config: Config) -> None:
    """Refuse what there is none of. What is as it ships needs no check, and no import for one.

    Raises:
        ConfigError: what is wrong, in one line.
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
