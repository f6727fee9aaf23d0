"""Retries: statuses after which a request may be sent again, and the pause before that, for all who fetch."""

from __future__ import annotations

import email.utils
import random
import time

TRIED_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


def pause(attempt: int, first: float) -> float:
    """Seconds before the next try: `first`, doubled for every further one, with jitter so that siblings spread."""
    return first * 2**attempt * random.uniform(0.75, 1.25)


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Seconds to wait that a Retry-After header asks for: a number, or a date. None: it asks for nothing readable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))
