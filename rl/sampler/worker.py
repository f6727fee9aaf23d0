"""The sampling process that `lensgraph.rl.sampler.process` starts: it takes dialogues, samples a turn of
each, sends it back.

Its argument is the file number of the connection. It ends when the other side does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import traceback
from concurrent.futures import CancelledError, Future
from multiprocessing.connection import Connection
from typing import Any

import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.sampler.shared_weights import SharedWeights


class SamplerWorker:
    """One network, and the turns that are being sampled from it."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        try:
            config, dtype, processor = connection.recv()
        except EOFError:  # the other side ended while this one began
            os._exit(0)
        self._connection = connection
        self._sending = threading.Lock()
        self._network = Qwen2_5_VLForConditionalGeneration(config).to(dtype).eval().requires_grad_(False)
        self._renderer = Renderer(processor)
        self._weights: SharedWeights | None = None
        self._policy: TransformersPolicy | None = None
        self._pictures: dict[str, Pixels] = {}
        self._running: dict[int, Future[Sampled]] = {}

    def serve(self) -> None:
        """Answer messages until the other side ends."""
        while True:
            try:
                kind, *rest = self._connection.recv()
            except (EOFError, OSError):
                return
            getattr(self, f"_on_{kind}")(*rest)

    def _on_weights(self, path: Any, places: Any) -> None:
        self._weights = SharedWeights.attach(self._network, path, places)
        self._weights.forget_name()  # both have mapped it: a kill from now on leaves nothing behind
        self._tell(("attached",))

    def _on_begin(self, seed: int, temperature: float, max_new_tokens: int, max_batch: int, reuse_bytes: int) -> None:
        for future in list(self._running.values()):  # of a batch that was interrupted
            future.cancel()
        self._running, self._pictures = {}, {}
        torch.manual_seed(seed)
        self._policy = TransformersPolicy(
            model="in training",
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            max_batch=max_batch,
            reuse_bytes=reuse_bytes,
        ).attach(self._network, self._renderer)

    def _on_turn(
        self, number: int, ids: list[int], mask: list[int], names: list[str], new: list[Pixels], stops: list[str]
    ) -> None:
        assert self._policy is not None
        self._pictures |= {picture.id: picture for picture in new}
        rendered = Rendered(ids, mask, [self._pictures[name] for name in names])
        future = self._running[number] = self._policy.submit(rendered, stops)
        future.add_done_callback(lambda done: self._answer(number, done))

    def _on_drop(self, number: int) -> None:
        if (future := self._running.pop(number, None)) is not None:
            future.cancel()

    def _answer(self, number: int, done: Future[Sampled]) -> None:
        self._running.pop(number, None)
        try:
            turn = done.result()
        except CancelledError:
            return
        except Exception as error:  # the caller handles it, as if it had sampled itself
            self._tell(("said", number, _sendable(error)))
        else:
            self._tell(("said", number, (turn.ids, turn.logprobs)))

    def _tell(self, message: tuple[Any, ...]) -> None:
        with self._sending, contextlib.suppress(OSError):  # nobody waits any more
            self._connection.send(message)


def _sendable(error: Exception) -> Exception:
    """The error, or its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main() -> None:
    """Run the worker; the only argument is the file number of the connection."""
    code = 0
    try:
        SamplerWorker(Connection(int(sys.argv[1]))).serve()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # nobody waits for the turns that are still being sampled


if __name__ == "__main__":
    main()
