"""Retries of one turn at a model server: the number of tries (`policy.retries`) and the wait before the next one.

The doubling pause and the reading of Retry-After are those of `lensgraph.tools.retry`. The statuses after which a request
is sent again are `lensgraph.tools.retry.TRIED_AGAIN`; `refusals.py` makes an error of a server's refusal.
"""

from __future__ import annotations

import asyncio

from lensgraph.agent.policy.errors import PolicyError
from lensgraph.agent.policy.server.refusals import ErrorStatus
from lensgraph.tools import retry

LONGEST_WAIT = 30.0
"""Seconds; a server that asks for a longer wait than this has failed."""
FIRST_WAIT = 1.0
"""Seconds before the second try where the server names no time; doubled for every further one."""


class Tries:
    """The tries of one turn, shared by everything that can fail in it."""

    def __init__(self, retries: int) -> None:
        self.made, self.retries = 0, retries

    async def after(self, error: PolicyError, cause: BaseException | None = None, wait: float | None = None) -> None:
        """Wait before the next try: `wait` seconds if the server asked for that, else longer every time.

        Raises:
            PolicyError: no try is left; it is `error`, with the number of tries.
        """
        if self.made >= self.retries:
            said = f"{error} (tried {self.made + 1} times)" if self.made else str(error)
            if isinstance(error, ErrorStatus):
                raise ErrorStatus(said, transient=error.transient) from cause
            raise PolicyError(said) from cause
        await asyncio.sleep(retry.pause(self.made, FIRST_WAIT) if wait is None else wait)
        self.made += 1
