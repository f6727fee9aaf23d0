"""Whether a torch device can be used, asked before weights are loaded onto it."""

from __future__ import annotations

from lensgraph.agent.config import ConfigError
from lensgraph.tools.safety.errors import one_line


def require(device: str | None) -> None:
    """Put one number on the device and take it back. None: the policy chooses one that is there.

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
