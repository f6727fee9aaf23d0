"""Text from outside, made harmless: the same for every model that reads it, see `tools.outside`."""

from __future__ import annotations

from tools.outside import entry, line, neutral

__all__ = ["entry", "line", "neutral"]
