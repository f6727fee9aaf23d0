"""Check a torch device before weights are loaded onto it."""

from __future__ import annotations

from lensgraph.agent.config import ConfigError
from lensgraph.tools.safety.one_line import one_line


def require(device: str | None) -> None:
    """Check that a device works, by moving one number there and back. None passes: the policy then chooses a device.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if device is None:
        return
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:  # unknown; built without it; no backend
        what = one_line(error, 80, first=True).rstrip(".")
        raise ConfigError(
            f"policy.options.device={device!r}: cannot be used here ({what}); give cpu, cuda, cuda:1 or mps, or leave it out."
        ) from error
