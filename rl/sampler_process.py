"""A sampler in a process of its own, for rollouts on a CPU.

The graphs of a rollout are Python, and so is most of sampling from a small network: in one process they wait for each other's
interpreter lock. Here the sampler has an interpreter of its own and shares the weights' memory, so that it samples from
what the optimizer has just written, and nothing is copied.

`SamplerProcess` starts the process and speaks with it; `ProcessPolicy` is the policy that the graphs call. What runs on the
other side is `rl.sampler_worker`. Not covered: adapters, weights on a GPU and sharded weights.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection, Listener
from typing import Any, Literal

import torch
from pydantic import PrivateAttr
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from agent.policy.decode import CAPACITY
from agent.policy.processor import PictureProcessor
from agent.policy.render import Rendered
from agent.policy.sampled import Sampled
from agent.policy.transformers import TransformersPolicy
from rl.shared_weights import SharedWeights

Sampler = Literal["thread", "process"]
"""Where turns are sampled."""
START_SECONDS = 120.0
"""How long the process may take to begin, imports included."""
END_SECONDS = 5.0
"""How long it may take to end."""


class SamplerProcess:
    """The other process, for one network. It starts at once and is waited for at the first `begin`."""

    def __init__(self, network: nn.Module, processor: PictureProcessor) -> None:
        """
        Raises:
            ValueError: the network is none that can be sampled there, see `can_sample`.
        """
        if not can_sample(network):
            raise ValueError(
                f"a {type(network).__name__} here cannot be sampled in another process; use sampler=thread"
            )
        self._network, self._processor = network, processor
        self._weights: SharedWeights | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Sampled]] = {}
        self._sent: set[str] = set()
        self._guard, self._attached = threading.Lock(), threading.Event()
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connection: Connection[Any, Any] | None = None
        key = secrets.token_bytes(16)
        self._listener = Listener(authkey=key)
        paths = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rl.sampler_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._finalizer = weakref.finalize(self, _end, self._process, self._listener)
        greeting = json.dumps({"address": self._listener.address, "key": key.hex()}) + "\n"
        assert self._process.stdin is not None
        self._process.stdin.write(greeting.encode())
        self._process.stdin.close()

    def begin(
        self, *, temperature: float, max_new_tokens: int, max_batch: int = 64, reuse_bytes: int = CAPACITY
    ) -> None:
        """Before a batch of rollouts: the weights may have changed, so nothing that was computed with others is kept.

        Raises:
            RuntimeError: the process has ended, or does not begin.
        """
        if self._connection is None:
            self._connect()
        if self._weights is None or not self._weights.holds(self._network):
            self._attached.clear()
            self._weights = SharedWeights.share(self._network)
            self._outbox.put(("weights", self._weights.path, self._weights.places))
            self._attached.wait(START_SECONDS)
            if self._process.poll() is not None:
                self._weights.forget_name()
                raise RuntimeError(self._why())
        # drawn here, so that a seeded program samples from seeded numbers
        seed = int(torch.randint(2**62, ()))
        with self._guard:
            self._sent.clear()
            self._outbox.put(("begin", seed, temperature, max_new_tokens, max_batch, reuse_bytes))

    def submit(self, rendered: Rendered, stops: Sequence[str]) -> Future[Sampled]:
        """A turn of this dialogue. Cancelling the future takes it out."""
        future: Future[Sampled] = Future()
        number = next(self._numbers)
        with self._guard:  # also keeps pictures before the dialogues that only name them
            if self._process.poll() is not None:
                raise RuntimeError(self._why())
            self._waiting[number] = future
            new = [picture for picture in rendered.pixels if picture.id not in self._sent]
            self._sent |= {picture.id for picture in new}
            names = [picture.id for picture in rendered.pixels]
            self._outbox.put(("turn", number, rendered.ids, rendered.mask, names, new, list(stops)))
        future.add_done_callback(lambda done: self._drop(number) if done.cancelled() else None)
        return future

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def _connect(self) -> None:
        box: list[Connection[Any, Any]] = []
        thread = threading.Thread(target=lambda: box.append(self._listener.accept()), daemon=True)
        thread.start()
        for _ in range(int(START_SECONDS * 10)):
            thread.join(0.1)
            if box or self._process.poll() is not None:
                break
        if not box:
            raise RuntimeError(self._why())
        self._connection = box[0]
        self._connection.send((self._network.config, self._network.dtype, self._processor))
        for target in (self._send, self._receive):
            threading.Thread(target=target, name="lensgraph-sampler", daemon=True).start()

    def _send(self) -> None:
        """Of its own thread: a full pipe must not stop an event loop."""
        assert self._connection is not None
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except OSError:  # the other side is gone; `_receive` tells those who wait
                return

    def _receive(self) -> None:
        assert self._connection is not None
        while True:
            try:
                kind, *rest = self._connection.recv()
            except (EOFError, OSError):
                break
            if kind == "attached":
                self._attached.set()
                continue
            number, said = rest
            with self._guard:
                future = self._waiting.pop(number, None)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if isinstance(said, Exception):
                future.set_exception(said)
            else:
                future.set_result(Sampled(*said))
        self._outbox.put(None)
        with self._guard:
            left, self._waiting = list(self._waiting.values()), {}
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._attached.set()
        for future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError(self._why()))

    def _drop(self, number: int) -> None:
        with self._guard:
            known = self._waiting.pop(number, None) is not None
        if known:
            self._outbox.put(("drop", number))

    def _why(self) -> str:
        code = self._process.poll()
        what = f"did not begin within {START_SECONDS:.0f} s" if code is None else f"ended with exit code {code}"
        return f"the process that samples {what}; its own message stands above, and sampler=thread does without it"


def _end(process: subprocess.Popen[bytes], listener: Listener) -> None:
    listener.close()
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def can_sample(network: nn.Module) -> bool:
    """Whether a network can be sampled in another process: a plain Qwen2.5-VL on a CPU."""
    plain = type(network) is Qwen2_5_VLForConditionalGeneration
    return plain and all(weight.device.type == "cpu" for weight in network.parameters())


def where(network: nn.Module, processes: int = 1) -> Sampler:
    """The faster place on this machine: another process where this one may use a second core and the network can go there.

    `processes` share the machine, as those of `accelerate launch` do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spare = cores >= 2 * processes and torch.get_num_threads() >= 2
    return "process" if spare and can_sample(network) else "thread"


class ProcessPolicy(TransformersPolicy):
    """The policy that the graphs call, sampled by a `SamplerProcess`. `attach` gives it its network as ever."""

    _process: SamplerProcess | None = PrivateAttr(default=None)

    def through(self, process: SamplerProcess) -> ProcessPolicy:
        """Sample there from now on, with what the network's weights are now."""
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
        """A turn, sampled together with whoever else waits. It comes in one piece: `tell` is not called."""
        if self._process is None:
            return super().submit(rendered, stops, tell)
        return self._process.submit(rendered, stops)
