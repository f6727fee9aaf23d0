"""A run on the terminal: each step as it happens, then the answer, its sources and its cost.

Invariant: text that came from a model or a page is printed as text; it can neither set colours nor move the cursor.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from lensgraph.agent import usage
from lensgraph.agent.state import ShownHit, Step
from lensgraph.tools.safety.escape import neutral

ACTIONS = {
    "image_search": "search by image",
    "text_search": "search by text",
    "crop": "look closer",
    "answer": "answer",
    "give_up": "give up",
    "malformed": "unreadable turn",
}
"""Label of each kind of action."""
OVER = {
    "search_limit": "no search left",
    "turn_limit": "no turn left",
    "token_limit": "no tokens left",
    "time_limit": "no time left",
    "price_limit": "no money left",
}
"""Label of an action that was not carried out, by the limit that it is over."""
LABEL = 17
"""Columns of the label column: one more than the longest label."""
SECONDS = "  {:.2f} s"


class _Terminal(Console):
    """A console that raises `BrokenPipeError` when its reader is gone; rich would exit with 1, which means no answer here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Show:
    """Prints one run."""

    def __init__(self, console: Console | None = None, *, raw: bool = False) -> None:
        """`raw`: print what a turn said that could not be read."""
        self.console, self.raw = console or _Terminal(highlight=False), raw

    def step(self, step: Step) -> None:
        """Print one node's record."""
        seconds = SECONDS.format(step.get("seconds", 0.0))
        if step["node"] == "reason":
            self._reason(step, seconds)
        elif step["node"] == "crop":
            cut = step.get("crop")
            if cut is not None and cut["box"]:
                left, top, right, bottom = cut["box"]
                self._row("cropped", f"box {left},{top} to {right},{bottom}", "yellow", seconds)
        elif step.get("hits"):
            self._found(step["hits"], seconds)
            if cut_off := step.get("cut_off"):
                self._row("few tokens", f"{_count(cut_off, 'result')} left out or shortened", "yellow")
        if step.get("error"):
            self._row("failed", str(step["error"]), "red", seconds)

    def warn(self, text: str) -> None:
        """Print a note about the question."""
        self._print([("note    ", "dim"), (text, "yellow")])

    def _reason(self, step: Step, seconds: str) -> None:
        self._print([(f"turn {step['turn']}", "bold cyan"), (seconds, "dim")])
        if left_out := step.get("left_out"):
            self._row("context full", f"{_count(len(left_out), 'thumbnail')} left out", "yellow")
        if step.get("thought"):
            self._row("thought", step["thought"], "italic")
        for action in usage.actions_of(step):
            if action["kind"] in ("answer", "give_up"):
                break  # it is printed at the end
            wanted = action.get("wanted", action)
            detail = wanted.get("query") or wanted.get("region") or wanted.get("reason") or "the whole picture"
            label = OVER[action["stop"]] if action["kind"] == "over_limit" else ACTIONS[action["kind"]]
            self._row(label, detail, "bold yellow")
        if self.raw and usage.faults(step):  # quoted as Python does: as it was said, and nothing in it moves the cursor
            self.console.print(Text.assemble((f"  {'it said':<{LABEL}}", "dim"), repr(step["text"])), soft_wrap=True)

    def _found(self, hits: list[ShownHit], seconds: str) -> None:
        for rank, hit in enumerate(hits, 1):
            score = "" if hit["score"] is None else f"  {hit['score']:.2f}"
            self._row(
                "found" if rank == 1 else "", f"{rank}. {hit['title']}", "", score + (seconds if rank == 1 else "")
            )

    def _row(self, label: str, text: str, style: str, rest: str = "") -> None:
        self._print([(f"  {label:<{LABEL}}", "dim"), (text, style), (rest, "dim")])

    def _print(self, parts: Iterable[tuple[str, str]]) -> None:
        line = Text()
        for text, style in parts:
            line.append(" ".join(neutral(text).split("\n")), style=style)
        self.console.print(line, soft_wrap=True)

    def end(self, result: dict[str, Any]) -> None:
        """Print the answer or the reason for none, the sources and the cost."""
        cost = result["usage"]
        self.console.print()
        if result["answer"] is None:
            self._print([("no answer  ", "bold red"), (result["stop_reason"], "")])
        else:
            self._print([("answer  ", "bold green"), (result["answer"], "bold")])
        for source in result["sources"]:
            self._print(
                [("source  ", "dim"), (source["title"], ""), (f"  {source['url']}  turn {source['turn']}", "dim")]
            )
        price = sum(cost["price"].values())
        parts = [
            _count(cost["turns"], "turn"),
            _count(cost["searches"]["image"], "image search"),
            _count(cost["searches"]["text"], "text search"),
            SECONDS.format(sum(cost["seconds"].values())).strip(),
            *([f"{price:.4f} USD"] if price else []),
        ]
        self._print([("cost    ", "dim"), (", ".join(parts), "dim")])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('h') else 's'}"
