"""Trackers that a recipe names: where metrics go besides the run's own log file."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK


def check(names: Sequence[str]) -> None:
    """Refuse, before anything is loaded, a tracker that does not exist or is not installed.

    Raises:
        ValueError: there is such a one; the message is one line with the fix.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"trackers: there is no {name!r}; use one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}")
        try:
            INTEGRATION_TO_CALLBACK[name]()  # as the trainer will; each of them looks for its package
        except (ImportError, RuntimeError) as error:
            raise ValueError(
                f"trackers: {name} is not installed here; pip install {name}, or leave it out of trackers"
            ) from error
