"""The one kind of failure that a policy may report instead of a turn."""

from __future__ import annotations


class PolicyError(Exception):
    """The policy could not be reached or refused the request. The episode ends with `policy_failed`.

    Raise it for what happens outside this process. A bug in a policy stays an ordinary exception and stops the run.
    """
