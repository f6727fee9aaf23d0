"""Sample in a process of its own, for rollouts on a CPU.

The graphs of a rollout are Python, and so is most of the sampling of a small network: in one process they
wait for each other's interpreter lock. The sampler here has its own interpreter and shares the memory of the
weights, so it samples with the weights that the optimizer has just written, and nothing is copied.

`SamplerProcess` starts the process and speaks with it; `ProcessPolicy` is the policy that the graphs call.
The other side is `lensgraph.rl.sampler.worker`. Not covered: adapters, weights on a GPU, sharded weights, and
Windows.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PrivateAttr
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

import lensgraph
from lensgraph.agent.policy.qwen.decode import CAPACITY
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.sampler.shared_weights import SharedWeights

SampledIn = Literal["thread", "process"]
"""Place where turns are sampled."""
END_SECONDS = 5.0  # the process may take this long to end before it is killed


class SamplerProcess:
    """The sampling process of one network. It starts at once; the first `begin` waits for it."""

    def __init__(self, network: nn.Module, processor: PictureProcessor) -> None:
        """
        Raises:
            ValueError: the network cannot be sampled in another process, see `can_sample`.
        """
        if not can_sample(network):
            raise ValueError(
                f"a {type(network).__name__} here cannot be sampled in another process; use sampler=thread"
            )
        self._network = network
        self._weights: SharedWeights | None = None
        self._numbers = itertools.count()
        self._sent: set[str] = set()
        hello = pickle.dumps((network.config, network.dtype, processor))
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: modules are looked for where this program found them, not in the working directory
                [sys.executable, "-P", "-m", "lensgraph.rl.sampler.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths())},
                start_new_session=True,  # Ctrl-C is for this program alone, which then ends the other
            )
        self._channel = Channel(Connection(ours.detach()), self._process)
        self._channel.put(hello)
        self._finalizer = weakref.finalize(self, _end, self._process, self._channel)

    @property
    def ended(self) -> bool:
        """Whether the process has ended, so that nothing can be sampled any more."""
        return self._channel.ended or self._process.poll() is not None

    def begin(
        self, *, temperature: float, max_new_tokens: int, max_batch: int = 64, reuse_bytes: int = CAPACITY
    ) -> None:
        """Prepare for a batch of rollouts: the weights may have changed, so every KV cache is dropped.

        Raises:
            RuntimeError: the process has ended.
            OSError: shared memory has no room for the weights.
        """
        if self.ended:
            raise RuntimeError(self._channel.why())
        if self._weights is None or not self._weights.holds(self._network):
            self._weights = self._share()
        # drawn here, so that a seeded program samples from seeded numbers
        seed = int(torch.randint(2**62, ()))
        with self._channel.guard:
            self._channel.drop_all("another batch of rollouts began before this turn was sampled")
            self._sent.clear()
            self._channel.put(pickle.dumps(("begin", seed, temperature, max_new_tokens, max_batch, reuse_bytes)))

    def submit(self, rendered: Rendered, stops: Sequence[str]) -> Future[Sampled]:
        """Sample a turn of a dialogue. Cancelling the future withdraws it.

        Raises:
            RuntimeError: the process has ended.
        """
        future: Future[Sampled] = Future()
        number = next(self._numbers)
        with self._channel.guard:  # also keeps pictures before the dialogues that only name them
            if self._channel.ended:
                raise RuntimeError(self._channel.why())
            new = [picture for picture in rendered.pixels if picture.id not in self._sent]
            names = [picture.id for picture in rendered.pixels]
            self._channel.put(pickle.dumps(("turn", number, rendered.ids, rendered.mask, names, new, list(stops))))
            self._sent |= {picture.id for picture in new}
            self._channel.waiting[number] = future
        channel = self._channel
        future.add_done_callback(lambda done: channel.drop(number) if done.cancelled() else None)
        return future

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def _share(self) -> SharedWeights:
        self._channel.attached.clear()
        weights = SharedWeights.share(self._network)
        try:
            self._channel.put(pickle.dumps(("weights", weights.path, weights.places)))
            while not self._channel.attached.wait(1.0):
                if self.ended:
                    break
            if self.ended:
                raise RuntimeError(self._channel.why())
        finally:  # both sides have mapped it by now, or the other never will
            weights.forget_name()
        return weights


class Channel:
    """The connection, and the turns that are under way.

    Its threads hold no reference to the `SamplerProcess`, so that an unused one is freed and ends its process.
    """

    def __init__(self, connection: Connection[Any, Any], process: subprocess.Popen[bytes]) -> None:
        self.guard = threading.RLock()
        self.waiting: dict[int, Future[Sampled]] = {}
        self.attached = threading.Event()
        """Set once the other side computes with the weights that were shared last, or has ended."""
        self.ended = False
        self._connection, self._process = connection, process
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for target in (self._send, self._receive):
            threading.Thread(target=target, name="lensgraph-sampler", daemon=True).start()

    def put(self, message: bytes) -> None:
        """Send a message in the order of the calls, without waiting: a full pipe must not stop an event loop."""
        self._outbox.put(message)

    def drop(self, number: int) -> None:
        """Withdraw a turn that nobody waits for any more."""
        with self.guard:
            if self.waiting.pop(number, None) is not None:
                self.put(pickle.dumps(("drop", number)))

    def drop_all(self, why: str) -> None:
        """Fail all turns that are under way, with this reason."""
        with self.guard:
            left, self.waiting = list(self.waiting.values()), {}
        for future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError(why))

    def why(self) -> str:
        """The error message: the state of the process, and the fix."""
        code = self._process.poll()
        what = "cannot be reached" if code is None else f"ended with exit code {code}"
        return f"the process that samples {what}; its own message stands above, and sampler=thread does without it"

    def _send(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(message)
            except OSError:  # the other side has ended; `_receive` fails the turns that wait
                return

    def _receive(self) -> None:
        try:
            while True:
                kind, *rest = self._connection.recv()
                if kind == "attached":
                    self.attached.set()
                else:
                    self._deliver(*rest)
        except (EOFError, OSError):
            pass  # the other side has ended: the turns that wait fail below
        except Exception:  # an unreadable message: nothing of this process can be trusted any more
            traceback.print_exc()
            self._process.kill()
        with self.guard:
            self.ended = True
        self._outbox.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self.attached.set()
        self.drop_all(self.why())

    def _deliver(self, number: int, said: Any) -> None:
        with self.guard:
            future = self.waiting.pop(number, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if isinstance(said, Exception):
            future.set_exception(said)
        else:
            future.set_result(Sampled(*said))


def _end(process: subprocess.Popen[bytes], channel: Channel) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _paths() -> list[str]:
    """The folders in which this program finds modules, as absolute paths."""
    return [
        str(Path(lensgraph.__file__).resolve().parents[1]),
        *(str(Path(path).resolve()) for path in sys.path if path),
    ]


def can_sample(network: nn.Module) -> bool:
    """Whether a network can be sampled in another process: a plain Qwen2.5-VL on a CPU, under Linux or macOS."""
    plain = type(network) is Qwen2_5_VLForConditionalGeneration and os.name == "posix"
    return plain and all(weight.device.type == "cpu" for weight in network.parameters())


def faster_place(network: nn.Module, processes: int = 1) -> SampledIn:
    """The faster place to sample on this machine.

    It is another process if the network can go there and this process may use a second core; `processes` is
    the number of processes that share the machine, as those of `accelerate launch` do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spare = cores >= 2 * processes and torch.get_num_threads() >= 2
    return "process" if spare and can_sample(network) else "thread"


class ProcessPolicy(TransformersPolicy):
    """The policy that the graphs call, sampled by a `SamplerProcess`; `attach` gives it its network."""

    _process: SamplerProcess | None = PrivateAttr(default=None)

    def through(self, process: SamplerProcess) -> ProcessPolicy:
        """Sample in this process from now on, with the present weights of the network."""
        process.begin(
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            max_batch=self.max_batch,
            reuse_bytes=self.reuse_bytes,
        )
        self._process = process
        return self

    def submit(
        self, rendered: Rendered, stops: Sequence[str] = (), tell: Callable[[Sampled], None] | None = None
    ) -> Future[Sampled]:
        """Sample a turn, together with the other turns that wait. It arrives in one piece: `tell` is not
        called."""
        if self._process is None:
            return super().submit(rendered, stops, tell)
        return self._process.submit(rendered, stops)
