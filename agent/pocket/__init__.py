"""The pocket policy: a tiny Qwen2.5-VL that ships with the package. `weights/README.md` is its card."""

from lensgraph.agent.pocket.checkpoints import COLD_START, SHIPPED, WEIGHTS, checkpoint

__all__ = ["COLD_START", "SHIPPED", "WEIGHTS", "checkpoint"]
