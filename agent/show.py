"""A run on the terminal: each turn as it happens, then the answer, its sources and its cost.

Invariant: text that came from a model or a page is printed as text; it can neither set colours nor move the cursor.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from agent.dialects.outside import neutral
from agent.state import Turn

LABELS = {
    "image_search": "search by image",
    "text_search": "search by text",
    "crop": "look closer at",
    "answer": "answer",
    "give_up": "give up",
    "over_limit": "one search too many",
    "malformed": "unreadable turn",
}
"""What the policy's actions are called here."""


class Show:
    """Prints one run."""

    def __init__(self, picture: str, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.seconds = 0.0

    def turn(self, turn: Turn) -> None:
        """One node's record."""
        self.seconds += turn.get("seconds", 0.0)
        if turn["node"] == "reason":
            self._reason(turn)
        elif turn["node"] == "crop":
            cut = turn.get("crop")
            where = "no such region" if cut is None else f"box {tuple(cut['box'] or ())}"
            self._line("  crop", f"{where}  of {cut['width']}x{cut['height']} px" if cut else where, turn)
        else:
            self._line(f"  {turn['node'].replace('_', ' ')}", turn["query"] if "hits" not in turn else "", turn)
            for rank, hit in enumerate(turn.get("hits", []), 1):
                score = "" if hit["score"] is None else f"  {hit['score']:.2f}"
                self._print(f"    {rank}. ", "dim", hit["title"], "", score, "dim")
        if turn.get("error"):
            self._print("    ", "", str(turn["error"]), "red")

    def _reason(self, turn: Turn) -> None:
        action = turn["action"]
        wanted = action.get("wanted", action)
        detail = wanted.get("query") or wanted.get("region") or wanted.get("reason") or ""
        if action["kind"] == "image_search" and not detail:
            detail = "the whole picture"
        self._line(f"turn {turn['turn']}", turn.get("thought", ""), turn, style="bold cyan")
        self._print(f"  {LABELS[action['kind']]}", "bold", f"  {detail}" if detail else "", "yellow")

    def _line(self, head: str, text: str, turn: Turn, style: str = "bold") -> None:
        self._print(head, style, f"  {text}" if text else "", "italic" if turn["node"] == "reason" else "",
                    f"  {turn.get('seconds', 0.0):.2f} s", "dim")  # fmt: skip

    def _print(self, *parts: str) -> None:
        line = Text()
        for text, style in zip(parts[::2], parts[1::2], strict=True):
            line.append(" ".join(neutral(text).split("\n")), style=style)
        self.console.print(line, soft_wrap=False)

    def end(self, result: dict[str, Any]) -> None:
        """The answer or why there is none, the sources, the cost."""
        usage = result["usage"]
        self.console.print()
        if result["answer"] is None:
            self._print("no answer", "bold red", f"  {result['stop_reason']}", "")
        else:
            self._print("answer", "bold green", f"  {result['answer']}", "bold")
        for source in result["sources"]:
            self._print(
                "  source", "dim", f"  {source['title']}", "", f"  {source['url']}  turn {source['turn']}", "dim"
            )
        searches, price = usage["searches"], sum(usage["price"].values())
        cost = (
            f"{usage['turns']} turns, {searches['image']} image and {searches['text']} text searches, "
            f"{sum(usage['seconds'].values()):.2f} s" + (f", {price:.4f} USD" if price else "")
        )
        self._print("  cost", "dim", f"  {cost}", "dim")
