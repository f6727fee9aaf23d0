"""Callers that wait at the same time are sampled together.

`Joining` samples token by token: who comes joins those that are being sampled, who has ended is answered at once. `Batches`
is for engines that answer a whole batch at a time. Both take callers of any event loop and any thread, and compute in one
thread of their own, which ends when nobody waits.

Invariant: every caller gets its own turn or the error that its dialogue raised; an error of one does not reach those that came
with another batch.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from lensgraph.agent.policy.qwen.decode import Running, Turn
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled

TOGETHER_S = 0.004  # long enough for sibling graphs to reach their policy call, short against one decoding step
"""Who comes this soon after the first is read with it."""
GATHERINGS = 10
"""So many times at most, while more keep coming."""
ADMIT_EVERY = 4
"""Tokens between two looks at who has come: reading dialogues together costs less than one by one."""


@dataclass
class Waiting:
    """A caller's turn, and where it is delivered."""

    turn: Turn
    tell: Callable[[Sampled], None] | None = None
    future: Future[Sampled] = field(default_factory=Future)

    def deliver(self) -> None:
        """The turn has ended."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.turn.said)

    def fail(self, error: Exception) -> None:
        """There will be no turn."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Worker(ABC):
    """Callers come in; a thread works as long as somebody waits."""

    def __init__(self) -> None:
        self._inbox: list[Waiting] = []
        self._guard = threading.Lock()
        self._busy = False

    def submit(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] | None = None
    ) -> Future[Sampled]:
        """A turn of this dialogue, when it is sampled. Cancelling the future takes it out. `tell` is called with what there is
        of it as it grows, in the sampling thread."""
        waiting = Waiting(Turn(rendered, stops), tell)
        with self._guard:
            self._inbox.append(waiting)
            start, self._busy = not self._busy, True
        if start:
            # no daemon: a network that is being freed while Python ends aborts the program
            threading.Thread(target=self._run, name="lensgraph-policy").start()
        return waiting.future

    def _run(self) -> None:
        while True:
            self._work()
            with self._guard:
                if not self._inbox:
                    self._busy = False
                    return

    def _take(self, most: int) -> list[Waiting]:
        with self._guard:
            taken, self._inbox = self._inbox[:most], self._inbox[most:]
        return [one for one in taken if not one.future.cancelled()]

    def _gather(self) -> None:
        """Wait while siblings keep coming, but not for long."""
        seen = 0
        for _ in range(GATHERINGS):
            if len(self._inbox) == seen:
                return
            seen = len(self._inbox)
            time.sleep(TOGETHER_S)

    @abstractmethod
    def _work(self) -> None:
        """Answer everybody that waits. Never raises."""


class Joining(Worker):
    """Continuous batching over a `Running`."""

    def __init__(self, start: Callable[[], Running], lock: Any, most: int) -> None:
        """`start` begins an empty `Running`; `lock` is held while the network computes; `most` turns run at a time."""
        super().__init__()
        self._start, self._lock, self._most = start, lock, most

    def _work(self) -> None:
        self._gather()
        before = torch.get_num_threads()
        try:
            self._sample_all()
        finally:
            torch.set_num_threads(before)

    def _sample_all(self) -> None:
        live: dict[int, Waiting] = {}
        running: Running | None = None
        since = ADMIT_EVERY
        while live or self._inbox:
            try:
                with self._lock:
                    if running is None:
                        running = self._start()
                        running.few_threads()
                    if since >= ADMIT_EVERY and len(live) < self._most:
                        since = 0
                        self._admit(running, live)
                    if not live:
                        since = ADMIT_EVERY
                        continue
                    ended = running.step()
                    since += 1
                    for turn in ended:
                        live.pop(id(turn)).deliver()
                    for one in [one for one in live.values() if not self._goes_on(one)]:
                        running.drop(live.pop(id(one.turn)).turn)
            except Exception as error:  # nothing of this run can be trusted any more
                waiting = [] if running else self._take(len(self._inbox))  # it could not even begin
                for one in (*live.values(), *waiting):
                    one.fail(error)
                live, running = {}, None

    @staticmethod
    def _goes_on(one: Waiting) -> bool:
        if one.tell is not None:
            try:
                one.tell(one.turn.said)
            except Exception as error:  # its reader is gone
                one.fail(error)
        return not one.future.done()

    def _admit(self, running: Running, live: dict[int, Waiting]) -> None:
        coming = self._take(self._most - len(live))
        live |= {id(one.turn): one for one in coming}  # from here on they are answered, whatever happens
        try:
            running.admit([one.turn for one in coming])
        except ValueError:  # one of them cannot be read; the others can
            for one in coming:
                try:
                    running.admit([one.turn])
                except ValueError as error:
                    live.pop(id(one.turn)).fail(error)


class Batches(Worker):
    """Whole batches, one after another."""

    def __init__(self, sample: Callable[[list[Rendered], list[list[str]]], list[Sampled]], most: int) -> None:
        """`sample` answers dialogues and their stop strings; at most `most` of them at a time."""
        super().__init__()
        self._sample, self._most = sample, most

    def _work(self) -> None:
        self._gather()
        batch = self._take(self._most)
        if not batch:
            return
        try:
            said = self._sample([one.turn.rendered for one in batch], [list(one.turn.stops) for one in batch])
        except Exception as error:  # each caller gets it; the graph records it as the policy's failure
            for one in batch:
                one.fail(error)
        else:
            for one, turn in zip(batch, said, strict=True):
                one.turn.said = turn
                one.deliver()
