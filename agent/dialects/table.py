"""The table of dialects."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.dialects.compact import Compact
from lensgraph.agent.dialects.deepmmsearch_r1 import DeepMMSearchR1
from lensgraph.agent.dialects.mmsearch_r1 import MMSearchR1
from lensgraph.agent.dialects.native_tools import NativeTools
from lensgraph.agent.dialects.prompts import PromptError
from lensgraph.tools.safety.one_line import one_line

DIALECTS: dict[str, type[Dialect]] = {cls.name: cls for cls in (Compact, DeepMMSearchR1, MMSearchR1, NativeTools)}
"""Every dialect by its name."""


def build(
    name: str,
    *,
    lenient: bool = False,
    limits: Mapping[str, int | float | None] | None = None,
    prompts: str | Path | None = None,
    image_hits: int | None = None,
    text_hits: int | None = None,
) -> Dialect:
    """The dialect of this name or import path; the options are described at `Dialect`.

    Raises:
        PromptError: there is no such dialect, or the prompts cannot be used.
    """
    return find(name)(lenient=lenient, limits=limits, prompts=prompts, image_hits=image_hits, text_hits=text_hits)


def find(name: str) -> type[Dialect]:
    """The class of a dialect of the table, or the one at `package.module:Class`.

    Raises:
        PromptError: there is no such dialect.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    module, colon, attribute = name.partition(":")
    own = "package.module:Class of your own"
    if not (module and colon and attribute):
        raise PromptError(f"dialect.name: unknown dialect {name!r}; valid: {', '.join(DIALECTS)}, or {own}.")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PromptError(f"dialect.name: {name!r} cannot be imported ({one_line(error)}); give {own}.") from error
    if not (isinstance(found, type) and issubclass(found, Dialect)):
        raise PromptError(f"dialect.name: {name!r} is no dialect; give a class derived from Dialect.")
    return found


def tools_of(name: str) -> list[dict[str, Any]]:
    """The tools that a dialect offers to the policy; none if it is not in the table."""
    return build(name).tools if name in DIALECTS else []
