"""Check the trackers that a recipe names, to which metrics go besides the run's own log file."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK


def check(names: Sequence[str]) -> None:
    """Refuse a tracker that does not exist or is not installed, before anything is loaded.

    Raises:
        ValueError: the message is one line with the fix.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"trackers: there is no {name!r}; use one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}")
        try:
            INTEGRATION_TO_CALLBACK[name]()  # as the trainer will; each looks for its package
        except (ImportError, RuntimeError) as error:
            raise ValueError(
                f"trackers: {name} is not installed here; pip install {name}, or leave it out of trackers"
            ) from error
