"""The failures that a policy may report instead of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lensgraph.tools.safety.redact import without_data, without_logins


class PolicyError(Exception):
    """The policy could not be reached or refused the request. The episode ends with `policy_failed`.

    Raise it for failures outside this process. A bug in a policy stays an ordinary exception and stops the run; of a policy
    that is configured by its import path, every exception counts as a `PolicyError`.
    The message shows neither user nor password of an address, and no data of a picture.
    """

    reason: ClassVar[str] = "policy"
    """Stands before the message in the step's `error`."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_data(without_logins(message)))


class ContextFull(PolicyError, ValueError):
    """The dialogue is longer than the policy's context, also without thumbnails. The episode ends with `token_limit`."""

    reason = "context_full"

    def __init__(self, message: str, left_out: Sequence[str] = ()) -> None:
        """`left_out`: ids of the thumbnails that were left out before the policy gave up."""
        super().__init__(message)
        self.left_out = list(left_out)


class NoPicture(PolicyError):
    """The question came without a picture, and the policy answers only about pictures. The episode ends with `no_picture`."""

    reason = "no_picture"


class PriceSpent(PolicyError):
    """The policy was not called, because the question has cost more than it may. The episode ends with `price_limit`."""

    reason = "price_spent"
