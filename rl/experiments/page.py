"""The results page: tables, figures and a plot of the experiments that have been evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.question_mix import caption
from lensgraph.rl.experiments.jobs import jobs
from lensgraph.rl.experiments.plan import Plan
from lensgraph.rl.experiments.seeds import SeedRuns, against, draw, markdown, read_seeds, weighted_markdown

BEGIN, END = "<!-- tables: python -m lensgraph.rl experiments table -->", "<!-- end of tables -->"
"""Lines of the page between which the tables stand."""


def evaluated(plan: Plan, folder: Path) -> dict[str, SeedRuns]:
    """The records of every experiment that has been evaluated with at least one seed."""
    found: dict[str, SeedRuns] = {}
    for name in plan.experiments:
        done = [job for job in jobs(plan, folder, [name]) if job.evaluated]
        if done:
            found[name] = read_seeds(name, [job.records for job in done])
    return found


def write(plan: Plan, folder: Path, out: Path | None, console: Console, *, search_free: float | None = None) -> None:
    """Print the tables; with `out` also write them there, with the figures as JSON and the curve as a picture.

    `search_free` adds below each table the same for questions of which this share needs no search.

    Raises:
        ValueError: the evaluations cannot be weighted.
    """
    found, parts = evaluated(plan, folder), []
    for title, names in plan.tables.items():
        shown = [found[name] for name in names if name in found]
        if shown:
            parts.append(f"### {title}\n\n{markdown(shown)}")
            if search_free is not None:
                parts.append(f"{caption(search_free)}:\n\n{weighted_markdown(shown, search_free)}")
    console.print("\n".join(parts), highlight=False, markup=False, soft_wrap=True)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    page = out / "README.md"
    if page.is_file():
        page.write_text(refreshed(page.read_text("utf-8"), "\n".join(parts)), "utf-8")
    else:
        page.write_text(f"{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}\n", "utf-8")
    figures: Mapping[str, Any] = {
        name: {
            **one.figures(),
            "against": {n: against(found[n], one) for n in found if n != name},
            **({} if search_free is None else {"weighted": _weighted(found, name, search_free)}),
        }
        for name, one in found.items()
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    curve = [found[name] for name in plan.curve if name in found]
    if curve:
        draw(curve, out / "curve.png")


def _weighted(found: Mapping[str, SeedRuns], name: str, share: float) -> dict[str, Any]:
    one = found[name]
    differences = {n: against(found[n], one, share) for n in found if n != name}
    return {"search_free": share, **one.weighted(share), "against": differences}


def refreshed(page: str, tables: str) -> str:
    """The page with its tables replaced; the words around them stay.

    Raises:
        ValueError: the page has no place for tables.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the page has no lines {BEGIN} and {END}; put them where the tables shall stand")
    return f"{head}{BEGIN}\n\n{tables}\n{END}{tail}"
