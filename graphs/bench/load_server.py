"""A server for load tests and tests: a scripted policy in OpenAI's format, a text and an image search, and their faults.

Invariants: which request fails, and how, follows from a seed and the request's number alone, so a run can be repeated; it
listens on this machine only and keeps nothing of what it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TURNS = [
    "<reason>I cannot name it.</reason><img_search><img></img_search>",
    "<reason>Now the page.</reason><text_search>kestrel point light automated</text_search>",
    "<reason>The page says 1987.</reason><answer>1987</answer>",
]
"""An episode with one search of each kind."""
HITS = [
    {"title": f"Kestrel Point Light, part {n}", "url": f"https://example.org/{n}", "snippet": "Automated in 1987."}
    for n in range(5)
]
GARBAGE = [
    b"<html>502 bad gateway",
    b'{"choices": [',
    b'{"choices": 7, "hits": 7}',
    b"\xff\xfe\x00garbage",
    b"[]",
    b'{"choices": [{"message": {"content": 5}}], "hits": [{"title": []}]}',
    b"",
]
"""Bodies with status 200 that no reader should trust."""


@dataclass(frozen=True)
class Faults:
    """Shares of requests that the server fails."""

    errors: float = 0.05
    """Answered with 500, 502, 503 or 429."""
    timeouts: float = 0.05
    """Never answered."""
    garbage: float = 0.01
    """Answered with status 200 and something else."""
    seed: int = 0
    """Seed of the choice."""

    def of(self, number: int) -> str:
        """The fault of request `number`: `error`, `timeout`, `garbage`, or `fine` for none."""
        drawn = random.Random(f"{self.seed}/{number}").random()
        for name, share in (("error", self.errors), ("timeout", self.timeouts), ("garbage", self.garbage)):
            if drawn < share:
                return name
            drawn -= share
        return "fine"


@dataclass
class LoadServer:
    """`with LoadServer(faults).running() as url:`; the policy is at `url/v1`, the searches at `url/text` and `url/image`."""

    faults: Faults = field(default_factory=Faults)
    """Faults of the answers."""
    latency: float = 0.01
    """Seconds before an answer."""
    met: Counter[str] = field(default_factory=Counter)
    """Number of requests by kind and fault, such as `policy error`."""

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread; gives the address."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True, name="load-server")
        thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24, backlog=1024), loop
        ).result()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path, size = _head(head)
                body = await reader.readexactly(size)
                answer = await self._answer(path, body)
                del body  # a connection that is kept open for later keeps no pictures
                if answer is None:  # never answered; the client goes away
                    await reader.read()
                    return
                status, data = answer
                lines = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
                extra = "retry-after: 0\r\n" if status == 429 else ""
                writer.write(f"{lines}{extra}\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        if path.endswith("/models"):
            return 200, json.dumps({"data": [{"id": "scripted", "owned_by": "scripted"}]}).encode()
        what = {"/text": "text", "/image": "image"}.get(path, "policy")
        number = self.met.total()
        fault = self.faults.of(number)
        self.met[f"{what} {fault}"] += 1
        await asyncio.sleep(self.latency)
        match fault:
            case "timeout":
                return None
            case "error":
                status = (500, 502, 503, 429)[number % 4]
                return status, json.dumps({"error": {"message": "try again", "code": status}}).encode()
            case "garbage":
                return 200, GARBAGE[number % len(GARBAGE)]
        return 200, json.dumps({"hits": HITS} if what != "policy" else completion(json.loads(body))).encode()


def completion(request: dict[str, Any]) -> dict[str, Any]:
    """The scripted turn that follows the turns in the request."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    text = TURNS[min(said, len(TURNS) - 1)]
    return {
        "object": "chat.completion",
        "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def _head(head: bytes) -> tuple[str, int]:
    """Path of a request and length of its body."""
    lines = head.decode("latin-1").split("\r\n")
    sizes = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    return lines[0].split(" ")[1], int(sizes[0]) if sizes else 0
