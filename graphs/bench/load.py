"""`lensgraph load`: many questions at once, against a policy server and tools of which a share fails.

Invariants: policy and tools are reached over HTTP as real ones are; every question is counted under how it ended, and an
exception or a question that outlives its time is a failure of this package, not of the servers. The first third of the
rounds is timed; then memory is traced, which costs time, and compared between the second traced round and the last: by
then what the caches hold has been traced too.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import random
import re
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from lensgraph.agent.context import Context
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.graphs import search_agent
from lensgraph.graphs.bench.load_server import Faults, LoadServer
from lensgraph.tools.base import ImageSearch, TextSearch
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import Hit, SearchResult, ToolFailure

HANGING = "hangs"
"""How a question that outlives its time is counted."""
STORE_BYTES = 4 * 1024 * 1024
"""Pictures kept in memory: less than a round brings, so that a store which grows would show."""
GROWTH_MB = 5.0
"""MB of Python's objects that 1,000 questions may add between the second traced round and the last: questions that kept
their pictures would add three times that."""

FEWEST_WATCHED = 100
"""Questions between those two rounds below which nothing is said about growth: buffers that fill once would be taken for it."""


class _Scripted(Remote):
    """What the two searches share."""

    service: ClassVar[str] = "Scripted search"

    url: str = ""
    """Where the server is."""

    async def hits(self, path: str, question: dict[str, Any]) -> list[Hit]:
        """Ask, and read the hits."""
        answer = await self.request("POST", f"{self.url}{path}", json=question)
        try:
            return [Hit(title=one["title"], url=one["url"], snippet=one["snippet"]) for one in answer["hits"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ToolFailure("malformed", f"{self.service}'s answer cannot be read.") from error


class ScriptedText(TextSearch, _Scripted):
    """Words, over HTTP."""

    async def asearch(self, query: str) -> SearchResult:
        """Ask the load server."""
        return SearchResult(kind="text", query=query, hits=await self.hits("/text", {"query": query}))


class ScriptedImage(ImageSearch, _Scripted):
    """A picture, over HTTP."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Ask the load server."""
        return SearchResult(kind="image", query="image", hits=await self.hits("/image", {"size": image.size}))


@dataclass
class Round:
    """What one round of questions did."""

    endings: Counter[str] = field(default_factory=Counter)
    """Questions by stop reason, `hangs`, or the name of an exception."""
    tool_errors: Counter[str] = field(default_factory=Counter)
    """Failed tool calls by reason."""
    policy_errors: Counter[str] = field(default_factory=Counter)
    """Questions that the policy failed, by what its last try met: `timeout`, `garbage`, a status, `other`."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of each question."""
    seconds: float = 0.0
    """Wall time of the round."""
    python_mb: float = 0.0
    """Memory that Python objects hold after the round, as tracemalloc counts it; 0 in a round that is timed."""
    rss_mb: float = 0.0
    """Memory of the process after the round."""

    @property
    def untyped(self) -> int:
        """Questions that ended in no way that the graph has a name for."""
        return sum(count for ending, count in self.endings.items() if ending not in set(StopReason))


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


def figures(
    questions: int, done: list[Round], met: Counter[str], faults: Faults, timeout: float, before: float
) -> dict[str, Any]:
    """What was measured, as `--json` prints it. `before`: MB of the process before the first question."""
    timed = done[: timed_rounds(len(done))]
    latencies = [seconds for one in timed for seconds in one.latencies]
    endings = sum((one.endings for one in done), Counter[str]())
    grown = growth(done)
    between = watched(questions, len(done))
    per_thousand = None if grown is None or between < FEWEST_WATCHED else grown / between * 1000
    return {
        "questions_at_once": questions,
        "rounds": len(done),
        "questions": endings.total(),
        "faults": asdict(faults),
        "timeout": timeout,
        "requests": dict(sorted(met.items())),
        "endings": dict(endings),
        "endings_share": {name: round(count / endings.total(), 4) for name, count in sorted(endings.items())},
        "tool_errors": dict(sum((one.tool_errors for one in done), Counter[str]())),
        "policy_errors": dict(sum((one.policy_errors for one in done), Counter[str]())),
        "timed_rounds": len(timed),
        "questions_per_second": sum(sum(one.endings.values()) for one in timed) / sum(one.seconds for one in timed),
        "median_seconds": statistics.median(latencies),
        "p95_seconds": p95(latencies),
        "memory_mb": {
            "start": round(before, 1),
            "middle": round(done[(len(done) - 1) // 2].rss_mb, 1),
            "end": round(done[-1].rss_mb, 1),
        },
        "python_mb": [round(one.python_mb, 2) for one in done[len(timed) :]],
        "grown_mb": None if grown is None else round(grown, 2),
        "grown_mb_per_1000_questions": None if per_thousand is None else round(per_thousand, 2),
        "memory_flat": None if per_thousand is None else per_thousand <= GROWTH_MB,
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    faults, memory = found["faults"], found["memory_mb"]
    shares = sorted(found["endings_share"].items(), key=lambda one: -one[1])
    grown = found["grown_mb_per_1000_questions"]
    verdict = f"too few questions to say (from 4 rounds of {FEWEST_WATCHED} on)"
    if grown is not None:
        word = "flat" if found["memory_flat"] else "GROWS"
        verdict = f"{word}: {grown:+.2f} MB of Python's objects per 1,000 questions (limit {GROWTH_MB:g})"
    rows = {
        "questions": f"{found['questions']}: {found['rounds']} rounds of {found['questions_at_once']} at once",
        "requests": f"{sum(found['requests'].values())}, of which {faults['errors']:.0%} get an error, {faults['timeouts']:.0%} "
        f"no answer within {found['timeout']:g} s, {faults['garbage']:.0%} garbage",
        "endings": ", ".join(f"{name} {share:.1%}" for name, share in shares),
        "failed tool calls": _listed(found["tool_errors"]),
        "policy's last try": _listed(found["policy_errors"]),
        "throughput": f"{found['questions_per_second']:.1f} questions a second ({found['timed_rounds']} timed rounds)",
        "seconds": f"median {found['median_seconds']:.1f}, 95th percentile {found['p95_seconds']:.1f}",
        "memory": f"{memory['start']:.0f} MB before, {memory['middle']:.0f} in the middle, {memory['end']:.0f} at the end",
        "growth": verdict,
    }
    return "\n".join(f"{name:<18} {value}" for name, value in rows.items())


def run(questions: int, rounds: int, faults: Faults, *, timeout: float) -> tuple[list[Round], Counter[str]]:
    """The rounds, and what happened to the requests."""
    server = LoadServer(faults)
    try:
        with server.running() as url:
            return asyncio.run(_rounds(questions, rounds, url, timeout)), server.met
    finally:
        tracemalloc.stop()


async def _rounds(questions: int, rounds: int, url: str, timeout: float) -> list[Round]:
    graph = search_agent.graph
    policy = OpenAICompatiblePolicy(
        model="scripted", base_url=f"{url}/v1", timeout=timeout, server="other", concurrency=questions
    )
    context = Context(
        policy=policy,
        dialect="deepmmsearch_r1",
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
    """A JPEG of its own for every question."""
    drawn = random.Random(f"{number}/{index}")
    colours = bytes(drawn.randrange(256) for _ in range(48 * 32 * 3))
    buffer = io.BytesIO()
    Image.frombytes("RGB", (48, 32), colours).resize((384, 256)).save(buffer, "JPEG")
    return buffer.getvalue()


def _met(error: str) -> str:
    """What the last try of a policy's turn met, from the words of the error."""
    if "no turn within" in error:
        return "timeout"
    if "no chat completion" in error:
        return "garbage"
    status = re.search(r": ([45]\d\d) ", error)
    return status[1] if status else "other"


def timed_rounds(rounds: int) -> int:
    """How many of the rounds are timed; in the others memory is traced."""
    return max(1, rounds // 3)


def watched(questions: int, rounds: int) -> int:
    """Questions between the two rounds after which memory is compared."""
    return questions * (rounds - timed_rounds(rounds) - 2)


def growth(done: list[Round]) -> float | None:
    """MB of Python memory gained from the second traced round to the last. None: too few rounds to say."""
    traced = done[timed_rounds(len(done)) :]
    return traced[-1].python_mb - traced[1].python_mb if len(traced) > 2 else None


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def rss_mb() -> float:
    """Memory of this process, as the system counts it; 0 where it does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _listed(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
