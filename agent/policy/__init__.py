"""Policies: LangChain chat models that decide. `build` finds the one that the configuration names."""

from lensgraph.agent.policy.build_policy import KINDS, build, check_kind
from lensgraph.agent.policy.errors import PolicyError

__all__ = ["KINDS", "PolicyError", "build", "check_kind"]
