"""The table of dialects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.dialects.compact import Compact
from lensgraph.agent.dialects.deepmmsearch_r1 import DeepMMSearchR1
from lensgraph.agent.dialects.mmsearch_r1 import MMSearchR1
from lensgraph.agent.dialects.native_tools import NativeTools
from lensgraph.agent.dialects.prompts import PromptError

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
    """The dialect of this name; the options are described at `Dialect`.

    Raises:
        PromptError: there is no such dialect, or the prompts cannot be used.
    """
    if name not in DIALECTS:
        raise PromptError(f"dialect.name: unknown dialect {name!r}; valid: {', '.join(DIALECTS)}.")
    return DIALECTS[name](lenient=lenient, limits=limits, prompts=prompts, image_hits=image_hits, text_hits=text_hits)


def tools_of(name: str) -> list[dict[str, Any]]:
    """The tools that a dialect offers to the policy; none if it is not in the table."""
    return build(name).tools if name in DIALECTS else []
