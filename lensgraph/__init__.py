"""LensGraph: a multimodal search agent as a LangGraph workflow.

The front door. `search_agent`, `rag` and `direct` are modules, each with a compiled `graph` and a `build` that compiles one
with a checkpointer; `Context` holds the options of one run, `Config` the configuration, which `load_config` reads; `as_tool`
makes a graph one tool of another agent; `events` holds the types of a graph's stream. `UserError` is the base of `BadInput`
(a question or a picture that cannot be used) and of `ConfigError` (a setting that cannot be used).

Invariant: `import lensgraph` loads nothing but this file; a name is imported when it is first used.
"""

from __future__ import annotations

import os.path
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensgraph.agent.config import Config, ConfigError, load_config
    from lensgraph.agent.context import Context
    from lensgraph.agent.errors import BadInput, UserError
    from lensgraph.agent.stream import events
    from lensgraph.graphs import direct, rag, search_agent
    from lensgraph.graphs.tool import as_tool

__all__ = [
    "BadInput", "Config", "ConfigError", "Context", "UserError", "as_tool", "direct", "events", "load_config", "rag",
    "search_agent",
]  # fmt: skip

_WHERE = {
    "BadInput": ("lensgraph.agent.errors", "BadInput"),
    "Config": ("lensgraph.agent.config", "Config"),
    "ConfigError": ("lensgraph.agent.config", "ConfigError"),
    "Context": ("lensgraph.agent.context", "Context"),
    "UserError": ("lensgraph.agent.errors", "UserError"),
    "as_tool": ("lensgraph.graphs.tool", "as_tool"),
    "direct": ("lensgraph.graphs.direct", ""),
    "events": ("lensgraph.agent.stream.events", ""),
    "load_config": ("lensgraph.agent.config", "load_config"),
    "rag": ("lensgraph.graphs.rag", ""),
    "search_agent": ("lensgraph.graphs.search_agent", ""),
}
"""Name -> its module and the attribute there; an empty attribute: the module itself."""


if not os.path.isdir(os.path.join(os.path.dirname(__file__), "agent")):
    # Read from a clone, where the rooms lie beside this folder and not in it. None: what else lies there is not imported.
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for _other in ("build", "lensgraph", "notebooks", "tests"):
        sys.modules[f"lensgraph.{_other}"] = None  # type: ignore[assignment]


if not TYPE_CHECKING:  # a type checker that saw `__getattr__` would accept every name

    def __getattr__(name: str) -> Any:
        """Import a public name on first use.

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _WHERE:
            raise AttributeError(f"module 'lensgraph' has no attribute {name!r}; it has {', '.join(__all__)}")
        module, attribute = _WHERE[name]
        found = import_module(module)
        value = getattr(found, attribute) if attribute else found
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names as well, also those that were not used yet."""
    return sorted({*globals(), *__all__})
