"""Ask the person at the terminal about a call that waits: what `lensgraph ask --approve` does.

Invariants: standard output is left to the answer, the dialogue goes over standard error; what a policy or a tool says is
printed as text; where nobody answers, nothing is approved.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lensgraph.agent.errors import UserError
from lensgraph.tools.safety.escape import line

SHOWN_CHARS = 600
"""Longest description of a call, in characters."""


def decide(waiting: Any) -> Any:
    """The resume value for what waits: a decision about a call of the graph, or what a tool of its own asks for.

    Raises:
        UserError: the input has ended.
    """
    calls = waiting.get("action_requests") if isinstance(waiting, dict) else None
    if not calls:
        return _value(_read(f"A tool asks: {line(_text(waiting), SHOWN_CHARS)}\n> "))
    call, picture = calls[0], waiting.get("picture")
    _say(line(call["description"], SHOWN_CHARS) + (f"\n  {_of(picture)}" if picture else ""))
    while True:
        word = _read("approve, edit or reject? ").lower()
        if word and "approve".startswith(word):
            return {"type": "approve"}
        if word and "reject".startswith(word):
            return {"type": "reject", "message": _read("reason, for the policy (may be empty): ")}
        if word and "edit".startswith(word):
            return {"type": "edit", "edited_action": {"name": call["name"], "args": _edited(call["args"])}}


def say_refused(error: UserError) -> None:
    """Tell why a decision could not be used, before it is asked for again."""
    _say(line(str(error), SHOWN_CHARS))


def _edited(args: dict[str, Any]) -> dict[str, Any]:
    if "query" in args:
        return {"query": _read("query: ")}
    words = _read("region in words, its box as left,top,right,bottom, or nothing for the whole picture: ")
    numbers = words.replace(" ", "").split(",")
    if len(numbers) == 4 and all(number.isdecimal() for number in numbers):
        return {"box": [int(number) for number in numbers]}
    return {"region": words or None}


def _of(picture: dict[str, Any]) -> str:
    size = f"{picture['width']}x{picture['height']} pixels"
    left, top, right, bottom = picture["box"] or (0, 0, 0, 0)
    return f"box {left},{top},{right},{bottom}, {size}" if picture["box"] else f"the whole picture, {size}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _value(words: str) -> Any:
    try:
        return json.loads(words)
    except ValueError:
        return words


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _read(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline() if sys.stdin is not None else ""
    if not typed:
        raise UserError(
            "a call waits for a person, and the input has ended; answer at a terminal, or ask for no approval"
        )
    return typed.strip()
