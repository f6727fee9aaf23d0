"""The figures of `lensgraph load`: endings, failures, throughput, latency and the growth of memory."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from lensgraph.agent.limits import StopReason
from lensgraph.graphs.bench.load_server import Faults

GROWTH_MB = 5.0
"""MB of Python objects that 1,000 questions may add between the second traced round and the last: questions that kept
their pictures would add three times that."""
FEWEST_WATCHED = 100
"""Questions between those two rounds that a verdict on growth needs: with fewer, buffers that fill once look like growth."""


@dataclass
class Round:
    """The outcome of one round of questions."""

    endings: Counter[str] = field(default_factory=Counter)
    """Questions by stop reason, `hangs`, or the name of an exception."""
    tool_errors: Counter[str] = field(default_factory=Counter)
    """Failed tool calls, by reason."""
    policy_errors: Counter[str] = field(default_factory=Counter)
    """Questions that the policy failed, by the fault of its last request: `timeout`, `garbage`, a status, `other`."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of each question."""
    seconds: float = 0.0
    """Wall time of the round."""
    python_mb: float = 0.0
    """MB that Python objects hold after the round, counted by tracemalloc; 0 in a timed round."""
    rss_mb: float = 0.0
    """MB of the process after the round."""

    @property
    def untyped(self) -> int:
        """Questions that ended with an exception or not at all."""
        return sum(count for ending, count in self.endings.items() if ending not in set(StopReason))


def figures(
    questions: int, done: list[Round], met: Counter[str], faults: Faults, timeout: float, before: float
) -> dict[str, Any]:
    """The figures that `--json` prints. `before`: MB of the process before the first question."""
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


def timed_rounds(rounds: int) -> int:
    """Number of rounds that are timed, a third; in the others memory is traced."""
    return max(1, rounds // 3)


def watched(questions: int, rounds: int) -> int:
    """Questions between the two rounds after which memory is compared."""
    return questions * (rounds - timed_rounds(rounds) - 2)


def growth(done: list[Round]) -> float | None:
    """MB of Python objects gained from the second traced round to the last; None with too few rounds."""
    traced = done[timed_rounds(len(done)) :]
    return traced[-1].python_mb - traced[1].python_mb if len(traced) > 2 else None


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def _listed(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
