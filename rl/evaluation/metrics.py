"""The table of metrics: one row a figure that an evaluation reports.

To add a metric, add a row to `METRICS`: a function of a question's record, with the rule of its average and its format.
The terminal table, Markdown, JSON, comparisons, the tables over seeds and the bar charts follow from the row:

    "crops": Metric("crops", lambda r: sum(step["node"] == "crop" for step in r.trace), form=".2f", head="crops"),

Source of the search ratio: MMSearch-R1, caption of Table 1 (calls made over calls allowed).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lensgraph.agent.limits import Limits
from lensgraph.rl.evaluation.record import Record
from lensgraph.tools.runtime.interval import interval

ALLOWED_CALLS = 2
"""Searches that MMSearch-R1 and the fixed workflow `rag` allow a question: the default denominator of the
search ratio."""

Spread = tuple[float, float, float]
"""A figure, and the lower and upper end of its 95 % interval."""
SHARE = ".3f"
"""Format of a share between 0 and 1."""


@dataclass(frozen=True)
class Metric:
    """A figure of a set of records: the sum of `value` over the number of questions, turns or allowed searches."""

    title: str
    """Name in words."""
    value: Callable[[Record], float]
    """The number of one question."""
    per: Literal["question", "turn", "allowed search"] = "question"
    """Denominator of the average: questions, turns of the policy, or searches that the limits allow."""
    empty: float = 0.0
    """The figure if the denominator is 0."""
    form: str = SHARE
    """Format of a printed figure."""
    head: str = ""
    """Column of the report; empty: the figure is in the JSON only."""
    interval: bool = False
    """Whether the report shows a 95 % bootstrap interval over tasks."""
    compared: Literal["difference", "value"] | None = None
    """Part in a comparison of runs: with a paired difference to the first run, as a value only, or none. A
    metric with a difference also has a bar chart."""
    parts: tuple[str, ...] = ()
    """Metrics that add up to this one; the bar chart stacks them."""

    def of(self, record: Record) -> float:
        """The metric's value for one question, as a float."""
        return float(self.value(record))

    def average(self, records: Sequence[Record], allowed: int = ALLOWED_CALLS) -> float:
        """The figure of some records; `allowed`: searches that a question might have made."""
        counts = {"question": len(records), "turn": sum(r.turns for r in records)}
        whole = counts.get(self.per, allowed * len(records))
        return sum(map(self.of, records)) / whole if whole else self.empty


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", lambda r: r.correct, head="accuracy", interval=True, compared="difference"),
    "searches": Metric(
        "searches a question", lambda r: r.searches, form=".2f", head="searches", compared="difference",
        parts=("image_searches", "text_searches"),
    ),
    "image_searches": Metric("image searches a question", lambda r: r.image_searches, form=".2f", head="image"),
    "text_searches": Metric("text searches a question", lambda r: r.text_searches, form=".2f", head="text"),
    "search_ratio": Metric("search ratio", lambda r: r.searches, per="allowed search", head="ratio"),
    "searching_share": Metric("share of questions with a search", lambda r: r.searches > 0, head="searching"),
    "turns": Metric("turns a question", lambda r: r.turns, form=".2f", head="turns"),
    "well_formed_turns": Metric(
        "well-formed turns", lambda r: r.turns - r.malformed, per="turn", empty=1.0, head="well formed",
        compared="value",
    ),
    "well_formed_episodes": Metric("well-formed episodes", lambda r: r.well_formed),
    "price": Metric("price a question", lambda r: r.price, form="g", head="price"),
    "waiting_seconds": Metric("seconds a question", lambda r: sum(r.seconds.values()), form=".2f", head="seconds"),
}  # fmt: skip
"""Key in the JSON -> metric, in the order of the report's columns."""
DIFFERENCES = tuple(name for name, metric in METRICS.items() if metric.compared == "difference")
"""Metrics that comparisons show with a paired difference."""
VALUES = tuple(name for name, metric in METRICS.items() if metric.compared == "value")
"""Metrics that comparisons show without one."""


def interval_key(name: str) -> str:
    """Key of a metric's interval in the JSON."""
    return "interval" if name == "accuracy" else f"{name}_interval"


def summarise(records: Sequence[Record], allowed: int = ALLOWED_CALLS) -> dict[str, Any]:
    """Every metric of a set of records, with counts; `allowed` as `allowed_calls` gives it."""
    figures: dict[str, Any] = {
        "tasks": len(records),
        "failed_runs": sum(record.error is not None for record in records),
        "stop_reasons": dict(Counter(record.stop_reason for record in records)),
    }
    for name, metric in METRICS.items():
        figures[name] = metric.average(records, allowed)
        if metric.interval:
            figures[interval_key(name)] = list(interval([metric.of(record) for record in records]))
    seconds: Counter[str] = Counter()
    for record in records:
        seconds.update(record.seconds)
    return {**figures, "seconds": {node: value / len(records) for node, value in seconds.items()}}


def by_group(records: Sequence[Record], allowed: int = ALLOWED_CALLS) -> dict[str, Any]:
    """The figures of all records, by family and by knowledge label; `allowed` as in `summarise`."""
    tables: dict[str, dict[str, Any]] = {}
    for key in ("family", "knowledge"):
        groups: defaultdict[str, list[Record]] = defaultdict(list)
        for record in records:
            groups[getattr(record, key) or "-"].append(record)
        tables[f"by_{key}"] = {name: summarise(group, allowed) for name, group in sorted(groups.items())}
    return {"allowed_calls": allowed, "all": summarise(records, allowed), **tables}


def allowed_calls(graph: str, limits: Limits) -> int:
    """Searches that a question may make under a dialect's limits.

    The ceilings are: by kind, all together, and one a turn before the last, because the last turn may only answer.
    """
    if graph == "rag":
        return ALLOWED_CALLS  # it makes both, whatever the dialect allows
    kinds = math.inf if limits.image is None or limits.text is None else limits.image + limits.text
    return int(min(kinds, math.inf if limits.calls is None else limits.calls, limits.turns - 1))
