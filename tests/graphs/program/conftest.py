"""Fixtures of the agent tests: settings with scripted backends, encoded pictures, a bomb."""

from ...agent.conftest import bomb, encoded, settings

__all__ = ["bomb", "encoded", "settings"]
