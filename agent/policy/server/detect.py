"""Find out which server answers, so that the fields that only it takes can be sent.

Invariant: the list of models is read once for all callers that wait in an event loop; a failure is that of all of them, and
the next caller tries again.
"""

from __future__ import annotations

import asyncio
import logging
import weakref

from lensgraph.agent.policy.server.connection import Connection
from lensgraph.agent.policy.server.refusals import ErrorStatus, Transient
from lensgraph.agent.policy.server.servers import Server, read_models
from lensgraph.agent.policy.server.tries import Tries
from lensgraph.tools.safety.redact import blot, without_logins

logger = logging.getLogger(__name__)

MOST_FAILURES = 2
"""Failed reads of the list of models after which the server is taken for one that has none."""


class Detector:
    """Reads the list of models once and remembers which server wrote it."""

    def __init__(self, connection: Connection, model: str, retries: int) -> None:
        self._connection, self._model, self._retries = connection, model, retries
        self._known: Server | None = None
        self._failures = 0
        self._running: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Server]]
        self._running = weakref.WeakKeyDictionary()

    async def server(self) -> Server:
        """The server, which is waited for if it is starting.

        Raises:
            PolicyError: it gives no answer.
        """
        if self._known is not None:
            return self._known
        loop = asyncio.get_running_loop()
        task = self._running.get(loop)
        if task is None:
            task = self._running[loop] = asyncio.create_task(self._detect())
            task.add_done_callback(lambda done: self._ended(loop, done))
        # Shielded: a caller that is cancelled leaves the task to the others.
        return await asyncio.shield(task)

    def _ended(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Server]) -> None:
        self._running.pop(loop, None)
        if not task.cancelled():
            task.exception()  # read it, or asyncio complains when every caller is gone

    async def _detect(self) -> Server:
        tries = Tries(self._retries)
        while True:
            try:
                async with self._connection.open("models", None, tries) as response:
                    known, names = read_models(await self._connection.read(response))
                break
            except ErrorStatus as error:  # no list of models, or not for us: the turn's own request will tell the error
                self._failures += 1
                # a proxy may stand before a server that is starting: detect again at the next turn
                if error.transient and self._failures < MOST_FAILURES:
                    return "other"
                known, names = "other", list[str]()
                break
            except Transient as error:
                await tries.after(error)
        if known == "vllm" and names and self._model not in names:
            # vLLM will answer 404; the names of its models help more
            there = blot(", ".join(names), self._connection.key())
            where = without_logins(self._connection.endpoint.base_url)
            logger.warning("%s serves %s, not %r (policy.model)", where, there, self._model)
        self._known = known
        return known
