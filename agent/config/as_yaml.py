"""Print the effective configuration as YAML that can be read again."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from lensgraph.agent.config.schema import LIMITS, Config
from lensgraph.tools.safety.redact import without_keys


def render(config: BaseModel) -> str:
    """The configuration as YAML, each setting under a comment with its meaning.

    Where a setting is left to the dialect, a second comment says what that dialect prescribes.
    """
    prescribed = _prescribed(config) if isinstance(config, Config) else {}
    return "\n".join(_lines(config, (), prescribed)) + "\n"


def _prescribed(config: Config) -> dict[tuple[str, ...], str]:
    """The values that the dialect prescribes for settings that are not set, by their path."""
    dialect = config.make_dialect()
    found: dict[tuple[str, ...], str] = {
        ("limits", name): f"{'no limit' if limit is None else limit} ({dialect.name})"
        for name, short in LIMITS.items()
        if getattr(config.limits, name) is None
        for limit in [getattr(dialect.limits, short)]
    }
    for kind, shown in (("text_search", dialect.text_hits), ("image_search", dialect.image_hits)):
        if getattr(config.tools, kind).k is None:
            found["tools", kind] = f"{shown} shown ({dialect.name})"
    return found


def _lines(config: BaseModel, path: tuple[str, ...], prescribed: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    pad = "  " * len(path)
    for name, field in type(config).model_fields.items():
        value, here = getattr(config, name), (*path, name)
        description = " ".join((field.description or "").split())
        yield from (f"{pad}# {part}" for part in textwrap.wrap(description, 100 - len(pad)))
        if here in prescribed:
            yield f"{pad}# Here: {prescribed[here]}."
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _lines(value, here, prescribed)
            yield from (_plain({key: extra}, pad + "  ") for key, extra in (value.model_extra or {}).items())
        else:
            yield _plain({name: value}, pad)


def _plain(value: dict[str, Any], pad: str) -> str:
    """A setting as YAML, every line of it behind `pad`."""
    text = yaml.safe_dump(_printable(value), default_flow_style=False, sort_keys=False, allow_unicode=True, width=1000)
    return textwrap.indent(text.rstrip("\n"), pad)


def _printable(value: Any) -> Any:
    """The value with keys hidden and other objects as text: YAML holds plain values only."""
    if isinstance(value, Mapping):
        return {key: _printable(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(below) for below in value]
    if isinstance(value, int | float) or value is None:
        return value
    return without_keys(str(value))
