"""One tree of settings: `schema` defines it, `load_config` reads it, `render` prints it.

Invariant: what `load_config` returns is complete and checked; whatever is wrong with a setting becomes one `ConfigError`, one
line that names the setting, its value and the valid ones. No secret is ever a setting: keys are named by the
environment variable that holds them, so the effective configuration can be printed. A setting that is named like a
secret or begins like the key of a known service is an error; what only looks like a key, and a login in an address, is
printed as `***`.
"""

from lensgraph.agent.config.as_yaml import render
from lensgraph.agent.config.load import find, load_config, ready
from lensgraph.agent.config.problems import ConfigError
from lensgraph.agent.config.schema import (
    ApprovalKind,
    CallersConfig,
    Config,
    DialectConfig,
    ImagesConfig,
    LimitsConfig,
    PolicyConfig,
    PolicyName,
    ToolsConfig,
    ToolSpec,
)

__all__ = [
    "ApprovalKind", "CallersConfig", "Config", "ConfigError", "DialectConfig", "ImagesConfig", "LimitsConfig",
    "PolicyConfig", "PolicyName", "ToolSpec", "ToolsConfig", "find", "load_config", "ready", "render",
]  # fmt: skip
