"""Refuse settings that hold a key: a file or a command line keeps it, and the effective configuration prints it."""

from __future__ import annotations

import re
from typing import Any

from lensgraph.agent.config.problems import ConfigError
from lensgraph.tools.safety.redact import HIDDEN, begins_like_key, is_credential, is_secret, looks_like_key


def refuse_keys(tree: dict[str, Any], value: Any, path: tuple[str, ...] = ()) -> None:
    """Refuse a value that is a key, or a name that belongs to one, anywhere below `value`.

    `tree` is all settings, for the fix that the error names; `path` is where `value` stands in it.
    """
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    for name, below in value.items():
        where = (*path, str(name))
        named = ".".join(HIDDEN if looks_like_key(part) else part for part in where)
        # `sort_key` and the like are settings, unless what they hold says otherwise
        certain = is_credential(str(name)) or str(name).lower() in ("key", "keys", "token")
        if below is not None and (
            certain or (is_secret(str(name)) and isinstance(below, str) and looks_like_key(below))
        ):
            raise ConfigError(f"{named}: a key is no setting; {_fix(tree, where)}.")
        if str(name).endswith("_env") and isinstance(below, str) and below and not _names_variable(below):
            raise ConfigError(
                f"{named}: takes the name of an environment variable, such as MY_KEY, and what is given (not "
                "shown) is none. If it is the key itself: export MY_KEY=..., and give MY_KEY here."
            )
        if isinstance(below, str) and begins_like_key(below):
            raise ConfigError(
                f"{named}: what is given (not shown) looks like a key, and a key is no setting; "
                f"{_fix(tree, where)}. If it is the name of a file: begin it with ./"
            )
        refuse_keys(tree, below, where)


def _names_variable(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None and not looks_like_key(text)


def _fix(tree: dict[str, Any], where: tuple[str, ...]) -> str:
    """The right way to give the key that was written at this place."""
    if where[0] == "policy":
        return "export it and name its variable: policy.api_key_env"
    if "model" in where[:-1]:
        return f"export it and name its variable: {'.'.join(where[: where.index('model') + 1])}.api_key_env"
    if "publisher" in where[:-1]:
        return "export AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN"
    variable = _key_variable(tree, where)
    return f"export it as {variable}" if variable else "export it in the environment variable that the provider reads"


def _key_variable(tree: dict[str, Any], where: tuple[str, ...]) -> str:
    """The environment variable that the provider at this place reads; empty if it names none."""
    from lensgraph.tools import registry  # only who made this mistake pays for it

    spec: Any = tree
    for name in where[:-1]:
        spec = spec.get(name) if isinstance(spec, dict) else None
    kind: registry.Kind | None = "read_page" if where[-2:-1] == ("reader",) else None
    for known in registry.PROVIDERS:
        kind = known if where[:-1] == ("tools", known) else kind
    if kind is None or not isinstance(spec, dict):
        return ""
    try:
        provider = registry.load_provider(kind, spec.get("use", next(iter(registry.PROVIDERS[kind]))))
    except registry.ToolConfigError:
        return ""
    return str(getattr(provider, "key_variable", ""))
