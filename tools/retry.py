"""Retries: statuses after which a request may be sent again, and the pause before that, for all who fetch."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping

TRIED_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


def pause(attempt: int, first: float) -> float:
    """Seconds before the next try: `first`, doubled for every further one, with jitter so that siblings spread."""
    return first * 2**attempt * random.uniform(0.75, 1.25)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that an answer's Retry-After asks for: a number, or a date, which counts from the answer's own Date: the
    clock of this machine may be wrong. None: it asks for nothing readable."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    date, now = _seconds(value), _seconds(headers.get("date", ""))
    return None if date is None else max(0.0, date - (time.time() if now is None else now))


def _seconds(date: str) -> float | None:
    """Unix time of a date as HTTP writes it; None: it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
