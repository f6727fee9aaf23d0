"""How actions are written as text: `compact`, `deepmmsearch_r1`, `mmsearch_r1`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.dialects.compact import Compact
from lensgraph.agent.dialects.deepmmsearch_r1 import DeepMMSearchR1
from lensgraph.agent.dialects.mmsearch_r1 import MMSearchR1
from lensgraph.agent.dialects.prompts import PromptError

DIALECTS: dict[str, type[Dialect]] = {cls.name: cls for cls in (Compact, DeepMMSearchR1, MMSearchR1)}


def build(
    name: str,
    *,
    lenient: bool = False,
    limits: Mapping[str, int | float | None] | None = None,
    prompts: str | Path | None = None,
) -> Dialect:
    """The dialect of this name; `limits` replaces single values of its own limits."""
    if name not in DIALECTS:
        raise PromptError(f"dialect.name: unknown dialect {name!r}; valid: {', '.join(DIALECTS)}.")
    return DIALECTS[name](lenient=lenient, limits=limits, prompts=prompts)


__all__ = ["DIALECTS", "Compact", "DeepMMSearchR1", "Dialect", "MMSearchR1", "PromptError", "build"]
