"""The record of one question's run, from which every metric is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation import provenance
from lensgraph.rl.run import jsonl


@dataclass(frozen=True)
class Record:
    """One question's outcome."""

    task: str
    """Task id."""
    family: str
    """Kind of question; empty if the set names none."""
    knowledge: str
    """`visible`, `known` or `unknown`: where the answer can come from without a search. Empty: not labelled."""
    answer: str | None
    """The final answer; None: there was none."""
    correct: bool
    """Whether the answer matches the task's golds within its tolerance."""
    stop_reason: str
    """A value of `lensgraph.agent.limits.StopReason`, or `failed` if the run raised."""
    turns: int
    """Turns of the policy."""
    malformed: int
    """Turns that could not be read as an action."""
    well_formed: bool
    """Whether the whole episode keeps the dialect's format rules."""
    image_searches: int
    """Image searches made."""
    text_searches: int
    """Text searches made."""
    seconds: dict[str, float]
    """Seconds spent waiting for the policy or a tool, by node. Concurrent questions share the policy, so this is not
    latency."""
    price: float
    """Price of all calls, in the currency of the configured prices."""
    trace: list[dict[str, Any]]
    """The nodes' records, shortened, for reading a single case."""
    error: str | None = None
    """The exception of the run in one line; None: it ran to its end."""
    asked: str = ""
    """Digest of question, golds and tolerance. Empty: an earlier version did not write it."""

    @property
    def searches(self) -> int:
        """Searches made, by image and by text."""
        return self.image_searches + self.text_searches


def read_records(path: Path) -> dict[str, Record]:
    """The records of a file, by task.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no records.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; make it with 'python -m lensgraph.rl evaluate --records {path}'"
        )
    records = records_in(path)
    if not records:
        raise UserError(f"{path} holds no records")
    return records


def records_in(path: Path) -> dict[str, Record]:
    """The records of a file, by task; empty if there is no file.

    Raises:
        DamagedLineError: it holds something else.
    """
    try:
        return {row["task"]: Record(**row) for row in provenance.rows(path)}
    except (TypeError, KeyError) as error:
        raise jsonl.DamagedLineError(f"{path}: not records of `python -m lensgraph.rl evaluate` ({error})") from error
