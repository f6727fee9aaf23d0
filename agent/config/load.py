"""Read the settings from YAML, the environment and dotted overrides, in that order of increasing weight."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lensgraph.agent.config.keys import refuse_keys
from lensgraph.agent.config.problems import ConfigError, explain
from lensgraph.agent.config.schema import Config, section_at
from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.redact import shown, without_keys

PREFIX = "LENSGRAPH_"
CONFIG_VARIABLE = "LENSGRAPH_CONFIG"
"""Names the YAML file to read if the program names none; the way to configure `langgraph dev`."""
OTHER_VARIABLES = ("config", "home", "locate_api_key")
"""Variables with the prefix that are no settings."""
READY = Path(__file__).parent / "ready"
"""Configurations that ship with the package; each is selected by its bare name."""


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The effective configuration: defaults, then YAML, then `LENSGRAPH_A__B=value`, then `a.b=value`.

    Raises:
        ConfigError: a setting is unknown, wrong or a key, or the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    path = path or environ.get(CONFIG_VARIABLE) or None
    tree: dict[str, Any] = _read_yaml(find(path)) if path else {}
    refuse_keys(tree, tree)
    for name, value in environ.items():
        keys = name.removeprefix(PREFIX).lower().split("__")
        # Single words such as LENSGRAPH_HOME belong to other parts of the package.
        if name.startswith(PREFIX) and (len(keys) > 1 or keys[0] in Config.model_fields):
            _set(tree, keys, _value(value), name)
            refuse_keys(tree, tree)
        elif name.startswith(PREFIX) and (meant := _meant(keys[0])):
            raise ConfigError(f"{name}: no variable of this program; did you mean {meant}? Rename or unset it.")
    for override in overrides:
        dotted, equals, value = override.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"{shown((), override)} is not a setting; write it as key.key=value.")
        _set(tree, dotted.split("."), _value(value), dotted)
        refuse_keys(tree, tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(without_keys(explain(error))) from None  # its own text repeats every value


def _meant(word: str) -> str:
    """The variable that a single word behind the prefix was probably meant to be; empty if it looks like none.

    Other words pass: a platform sets some of its own, such as LENSGRAPH_PORT for a service of that name.
    """
    for section in Config.model_fields:
        if word.startswith(f"{section}_") and word.removeprefix(f"{section}_") in section_at([section]).model_fields:
            return f"{PREFIX}{section}__{word.removeprefix(f'{section}_')}".upper()
    # LENSGRAPH_IMAGE is what a deployment calls the image of its container, so not these
    sections = [name for name in Config.model_fields if name not in ("images", "tools", "limits")]
    close = difflib.get_close_matches(word, [*sections, *OTHER_VARIABLES], n=1, cutoff=0.75)
    if not close or close[0] == word:
        return ""
    below = "__..." if close[0] in Config.model_fields and close[0] != "graph" else ""
    return f"{PREFIX}{close[0].upper()}{below}"


def ready() -> list[str]:
    """The names of the configurations that ship with the package."""
    return sorted(path.stem for path in READY.glob("*.yaml"))


def find(path: str | Path) -> Path:
    """The file at a path, or of the bare name of a configuration that ships with the package."""
    given = Path(path).expanduser()
    if given.suffix or len(given.parts) != 1 or given.exists():
        return given
    if given.name in ready():
        return READY / f"{given.name}.yaml"
    raise ConfigError(
        f"{without_keys(str(given))}: no such file, and no ready configuration; ready ones: {', '.join(ready())}."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({one_line(error, 120)}); correct that line.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold keys such as `policy:`, not {type(found).__name__}.")
    return found


def _value(text: str) -> Any:
    """A value as YAML reads it; text that is no YAML stays text."""
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        return text


def _set(tree: dict[str, Any], keys: list[str], value: Any, name: str) -> None:
    """Put a value into the tree; `name` is what an error calls the setting."""
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if isinstance(below, str):  # `tools.text_search: local` is short for `{use: local}`
            below = tree[key] = {"use": below}
        if not isinstance(below, dict):
            raise ConfigError(
                f"{name}: {key!r} is the value {shown((key,), below)} and has no settings below it; set {key!r} itself."
            )
        tree = below
    tree[keys[-1]] = value
