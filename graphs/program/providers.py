"""Whether there is what a configuration names: the kind of policy, and the provider of every tool with its options.

Invariant: what is wrong is said before anything runs, also about a tool that the question may never use; nothing is built for
it, so no service's key has to be there. Not covered: the values of options, which a policy and a tool check when they are built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensgraph.agent.config import Config, ConfigError, PolicyConfig, ToolSpec

if TYPE_CHECKING:
    from lensgraph.tools.registry import Kind

TOOLS: tuple[Kind, ...] = ("text_search", "image_search", "locate")
"""The tools of a configuration, named as the graph calls them."""
USED: dict[str, tuple[Kind, ...]] = {"search_agent": TOOLS, "rag": TOOLS[:2], "direct": ()}
"""Graph -> the tools that it may call."""


def check(config: Config) -> None:
    """Refuse what there is none of. What is as it ships needs no check, and no import for one.

    Raises:
        ConfigError: what is wrong, in one line.
    """
    if config.policy.kind != PolicyConfig().kind:
        from lensgraph.agent import policy

        policy.check_kind(config.policy.kind)
    for kind in TOOLS:
        spec: ToolSpec = getattr(config.tools, kind)
        if spec != ToolSpec():
            from lensgraph.tools import registry

            try:
                registry.check(kind, spec.model_dump())
            except registry.ToolConfigError as error:
                raise ConfigError(str(error)) from error
