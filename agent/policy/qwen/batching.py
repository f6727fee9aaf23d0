"""Sample the turns of callers that wait at the same time together.

`ContinuousBatching` samples token by token: a new caller joins the running batch, and a turn that has ended is answered at
once. `StaticBatching` is for engines that answer a whole batch at a time. Both take callers of any event loop and any thread,
and compute in one thread of their own, which ends when nobody waits.

A graph asks for one turn at a time, and many graphs run at once; a network that answered them one after another would read
its weights once for every token of every graph. An engine such as vLLM batches as well, but is a server for Linux with a
GPU; training and evaluation on one machine sample in the process that holds the weights.

Invariant: every caller gets its own turn or the error of its own dialogue; an error does not reach callers of another batch.
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

from lensgraph.agent.policy.qwen.decode import RunningBatch, SamplingJob
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled

TOGETHER_S = 0.004
"""Seconds to wait for further callers: long enough for sibling graphs to reach their policy call, short against a step."""
GATHERINGS = 10
"""Most such waits before a batch begins, while more callers keep coming."""
ADMIT_EVERY = 4
"""Tokens between two looks for new callers: reading several dialogues at once costs less than one by one."""


@dataclass
class Waiting:
    """A caller's job, and the future that its turn is delivered to."""

    job: SamplingJob
    tell: Callable[[Sampled], None] | None = None
    future: Future[Sampled] = field(default_factory=Future)

    def deliver(self) -> None:
        """Give the caller its turn."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.job.said)

    def goes_on(self) -> bool:
        """Tell the caller of its turn so far; False: it does not wait any more."""
        if self.tell is not None:
            try:
                self.tell(self.job.said)
            except Exception as error:  # its reader is gone
                self.fail(error)
        return not self.future.done()

    def fail(self, error: Exception) -> None:
        """Give the caller an error."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Worker(ABC):
    """Takes callers in; its thread works as long as a caller waits."""

    def __init__(self) -> None:
        self._inbox: list[Waiting] = []
        self._guard = threading.Lock()
        self._busy = False

    def submit(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] | None = None
    ) -> Future[Sampled]:
        """Ask for a turn of this dialogue. Cancelling the future stops its sampling. `tell` is called in the sampling thread
        with the turn so far, after every token."""
        waiting = Waiting(SamplingJob(rendered, stops), tell)
        with self._guard:
            self._inbox.append(waiting)
            start, self._busy = not self._busy, True
        if start:
            # no daemon: freeing a network while Python ends aborts the program
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
        """Answer all callers that wait. Never raises."""


class ContinuousBatching(Worker):
    """Callers join and leave a `RunningBatch` between its tokens."""

    def __init__(self, start: Callable[[], RunningBatch], lock: Any, most: int) -> None:
        """`start` makes an empty batch; `lock` is held while the network computes; `most` is the largest batch."""
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
        running: RunningBatch | None = None
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
                    for job in ended:
                        live.pop(id(job)).deliver()
                    for one in [one for one in live.values() if not one.goes_on()]:
                        running.drop(live.pop(id(one.job)).job)
            except Exception as error:  # the state of this batch is unknown
                waiting = [] if running else self._take(len(self._inbox))  # the batch could not even begin
                for one in (*live.values(), *waiting):
                    one.fail(error)
                live, running = {}, None

    def _admit(self, running: RunningBatch, live: dict[int, Waiting]) -> None:
        coming = self._take(self._most - len(live))
        live |= {id(one.job): one for one in coming}  # from here on they are answered, whatever happens
        try:
            running.admit([one.job for one in coming])
        except ValueError:  # one of them cannot be read; the others can
            for one in coming:
                try:
                    running.admit([one.job])
                except ValueError as error:
                    live.pop(id(one.job)).fail(error)


class StaticBatching(Worker):
    """Whole batches, one after another."""

    def __init__(self, sample: Callable[..., list[Sampled]], most: int, *, telling: bool = False) -> None:
        """`sample` answers dialogues, given with their stop strings; `most` is the largest batch. With `telling` it is also
        given a function (row, turn so far) to call after every token, which says whether the caller still waits."""
        super().__init__()
        self._sample, self._most, self._telling = sample, most, telling

    def _work(self) -> None:
        self._gather()
        batch = self._take(self._most)
        if not batch:
            return

        def goes_on(row: int, said: Sampled) -> bool:
            batch[row].job.said = said
            return batch[row].goes_on()

        told = [goes_on] if self._telling else []
        try:
            said = self._sample([one.job.rendered for one in batch], [list(one.job.stops) for one in batch], *told)
        except Exception as error:  # each caller gets it; the graph records it as the policy's failure
            for one in batch:
                one.fail(error)
        else:
            for one, turn in zip(batch, said, strict=True):
                one.job.said = turn
                one.deliver()
