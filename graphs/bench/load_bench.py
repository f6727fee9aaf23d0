"""`lensgraph load`: many questions at once, against a policy server and tools of which a share fails.

Invariants: policy and tools are reached over HTTP as real ones are; every question is counted under how it ended, and an
exception or a question that outlives its time is a failure of this package, not of the servers. The first third of the
rounds is timed. In the others memory is traced, which costs time, and compared between the second traced round and the
last: by then the caches are full and their contents have been traced too.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import random
import re
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from lensgraph.agent import config as configuration
from lensgraph.agent.context import Context
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.graphs import search_agent
from lensgraph.graphs.bench.load_report import Round, figures, table, timed_rounds
from lensgraph.graphs.bench.load_server import Faults, LoadServer
from lensgraph.tools.base import ImageSearch, TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure

HANGING = "hangs"
"""The ending under which a question that outlives its time is counted."""
STORE_BYTES = 4 * 1024 * 1024
"""Pictures kept in memory: less than a round brings, so that a store which grows would show."""


class _Scripted(Remote):
    """The request and the reader that both searches share."""

    service: ClassVar[str] = "Scripted search"

    url: str = ""
    """Address of the load server."""

    async def hits(self, path: str, question: dict[str, Any]) -> list[Hit]:
        """Send the request and read the hits of the answer."""
        answer = await self.request("POST", f"{self.url}{path}", json=question)
        try:
            return [Hit(title=one["title"], url=one["url"], snippet=one["snippet"]) for one in answer["hits"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ToolFailure("malformed", f"{self.service}'s answer cannot be read.") from error


class ScriptedText(TextSearch, _Scripted):
    """A text search over HTTP."""

    async def asearch(self, query: str) -> SearchResult:
        """Ask the load server."""
        return SearchResult(kind="text", query=query, hits=await self.hits("/text", {"query": query}))


class ScriptedImage(ImageSearch, _Scripted):
    """An image search over HTTP."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Ask the load server."""
        return SearchResult(kind="image", query="image", hits=await self.hits("/image", {"size": image.size}))


def main(questions: int, rounds: int, faults: Faults, *, timeout: float, as_json: bool) -> int:
    """Run, print, and return the exit code: 0 if every question ended properly and memory stayed flat."""
    before = rss_mb()
    done, met = run(questions, rounds, faults, timeout=timeout)
    found = figures(questions, done, met, faults, timeout, before)
    print(json.dumps(found) if as_json else table(found))
    bad = sum(one.untyped for one in done)
    if bad or found["memory_flat"] is False:
        print(f"FAILED: {bad} questions without a typed ending" if bad else "FAILED: memory grows", file=sys.stderr)
        return 1
    return 0


def run(questions: int, rounds: int, faults: Faults, *, timeout: float) -> tuple[list[Round], Counter[str]]:
    """Ask all questions; returns the rounds, and the number of requests by kind and fault."""
    server = LoadServer(faults)
    try:
        with server.running() as url:
            return asyncio.run(_rounds(questions, rounds, url, timeout)), server.met
    finally:
        tracemalloc.stop()


async def _rounds(questions: int, rounds: int, url: str, timeout: float) -> list[Round]:
    graph = search_agent.graph
    policy = OpenAICompatiblePolicy(
        model="scripted",
        base_url=f"{url}/v1",
        timeout=timeout,
        server="other",
        concurrency=questions,
        counts_pictures=False,  # a script, and no model that sees
    )
    context = Context(
        policy=policy,
        config=configuration.load_config(overrides=["dialect.name=deepmmsearch_r1"]),
        text_search=ScriptedText(url=url, timeout=timeout, backoff=0.05),
        image_search=ScriptedImage(url=url, timeout=timeout, backoff=0.05),
        store=ImageStore(memory_bytes=STORE_BYTES),
    )
    done = []
    for number in range(rounds):
        if number == timed_rounds(rounds):
            tracemalloc.start()
        done.append(await _round(graph, context, number, questions, timeout))
    await policy.aclose()
    return done


async def _round(graph: Any, context: Context, number: int, questions: int, timeout: float) -> Round:
    one, began = Round(), time.perf_counter()
    # Six requests, each tried three times at most, and the graph's own work for all questions at once.
    patience = 20 * timeout + 0.5 * questions + 60.0

    async def ask(index: int) -> None:
        started = time.perf_counter()
        given = {"question": f"When was it automated? {number}/{index}", "images": [_picture(number, index)]}
        try:
            async with asyncio.timeout(patience):
                result = await graph.ainvoke(given, context=context)
        except TimeoutError:
            one.endings[HANGING] += 1
        except Exception as error:  # counted: an exception is what this test looks for
            one.endings[type(error).__name__] += 1
        else:
            one.endings[str(result["stop_reason"])] += 1
            failed = [step["error"] for step in result["steps"] if step["node"] != "reason" and step.get("error")]
            one.tool_errors.update(error.partition(":")[0] for error in failed)
            if result["stop_reason"] == StopReason.POLICY_FAILED:
                one.policy_errors[_met(str(result["steps"][-1].get("error")))] += 1
        one.latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(ask(index) for index in range(questions)))
    one.seconds = time.perf_counter() - began
    gc.collect()
    one.python_mb = tracemalloc.get_traced_memory()[0] / 2**20
    one.rss_mb = rss_mb()
    return one


def _picture(number: int, index: int) -> bytes:
    """A JPEG that differs for every question."""
    drawn = random.Random(f"{number}/{index}")
    colours = bytes(drawn.randrange(256) for _ in range(48 * 32 * 3))
    buffer = io.BytesIO()
    Image.frombytes("RGB", (48, 32), colours).resize((384, 256)).save(buffer, "JPEG")
    return buffer.getvalue()


def _met(error: str) -> str:
    """The fault of a policy's last request, read from the error message."""
    if "no turn within" in error:
        return "timeout"
    if "no chat completion" in error:
        return "garbage"
    status = re.search(r": ([45]\d\d) ", error)
    return status[1] if status else "other"


def rss_mb() -> float:
    """MB of this process, as the system counts them; 0 where it does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
