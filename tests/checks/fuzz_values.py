"""Odd values, texts and JSON for the fuzzers, and the counts of a run."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HALF = "\ud83d"
"""Half of an emoji, as services cut it that count as JavaScript does."""
PIECES = (
    "", " ", "a", "What is it?", "1987", "\0", "\x1b[31m", "\r\n", "\n" * 50, "\u2028", "\u202e", "\ufeff", "\ufffe", "\x85",
    HALF, "\udc00", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301" * 40, "\u0300" * 200, "\u5927\u5b66", "\u0627\u0644",
    "<answer>", "</answer>", "<answer>x</answer>", "<img_search><img></img_search>", "<img_search>the tower</img_search>",
    "<text_search>q</text_search>", "<text_search>", "</text_search>", "<reason>", "</reason>", "<img>", "<crop>", "</crop>",
    "<information>", "</information>", "<think>", "</think>", "<|im_end|>", "<|image_pad|>", "<tool_call>{}</tool_call>",
    "{", "}", "[]", '{"name": "answer", "arguments": {}}', "```json", "\\", "%s", "{0}", "%00", "../../etc/passwd",
    "data:image/png;base64,AAAA", "http://[::1", "javascript:alert(1)", "NaN", "-1", "9" * 400, "x" * 3000, "<" * 300,
)  # fmt: skip
"""Pieces that texts are put together from."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, -(2**64), 10**400,
    "", "x", HALF, "\0", "null", "1", "nan", "x" * 5000, [], {}, [[]], [None], {"": None}, {"a": {"b": {}}}, [1, "2", {}],
)  # fmt: skip
"""Values of every JSON type, and of none."""
VERBATIM = (
    "[" * 100_000, '{"a":' * 60_000, "[" * 900 + "]" * 900, "9" * 5_000, "-", "1e999999", "NaN", "-Infinity", '"\\ud83d"',
    '"\\u0000"', '"\\x"', "tru", '"' + "y" * 200_000 + '"', "[" + "0," * 20_000 + "0]", "0x10", "'single'", "/* */ 1",
)  # fmt: skip
"""JSON as no library writes it: too deep, too long, or none."""
MARK = "@@{}@@"
"""Stands for verbatim text until the JSON is written."""


def text(chance: random.Random) -> str:
    """An odd text of a few pieces, now and then a very long one."""
    made = "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 7)))
    return made * chance.choice((1, 1, 1, 1, 1, 1, 1, 1, 40))


def value(chance: random.Random) -> Any:
    """A value that does not belong where it is put."""
    return copy.deepcopy(chance.choice((text(chance), chance.choice(VALUES), chance.choice(VALUES))))


def varied(tree: Any, chance: random.Random, changes: int | None = None) -> Any:
    """A copy of a JSON value in which some places hold another value, are missing, are wrapped or come twice."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.randint(1, 3) if changes is None else changes):
        places = [place for place in _places(tree) if place[0] is not None]
        if not places or chance.random() < 0.03:
            tree = value(chance)
            continue
        holder, key = chance.choice(places)
        match chance.randrange(6):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [copy.deepcopy(holder[key]) for _ in range(chance.choice((0, 1, 2, 9)))]
            case 2:
                if isinstance(holder, dict):
                    holder[chance.choice(("type", "error", "content", "id", HALF, ""))] = value(chance)
                else:
                    holder.insert(key, value(chance))
            case _:
                holder[key] = value(chance)
    return tree


def written(tree: Any, chance: random.Random) -> str:
    """The JSON of a value, in which one place may hold what no library writes."""
    verbatim = {}
    if chance.random() < 0.15:
        places = [place for place in _places(tree) if place[0] is not None]
        mark = MARK.format(chance.getrandbits(40))
        verbatim[json.dumps(mark)] = chance.choice(VERBATIM)
        if places:
            tree = json.loads(json.dumps(tree))
            holder, key = chance.choice([place for place in _places(tree) if place[0] is not None])
            holder[key] = mark
        else:
            tree = mark
    made = json.dumps(tree, ensure_ascii=chance.random() < 0.5)
    for mark, raw in verbatim.items():
        made = made.replace(mark, raw)
    return made


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value in a tree; the root has no holder."""
    todo: list[tuple[Any, Any, Any]] = [(None, None, tree)]
    while todo:
        holder, key, here = todo.pop()
        yield holder, key
        if isinstance(here, dict):
            todo += [(here, name, below) for name, below in here.items()]
        elif isinstance(here, list):
            todo += [(here, number, below) for number, below in enumerate(here[:40])]


@dataclass
class Fuzzed:
    """Counts of one run."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Cases by kind."""
    endings: Counter[str] = field(default_factory=Counter)
    """Cases by how they ended."""
    slowest: float = 0.0
    """Seconds of the slowest case."""
    raw: list[str] = field(default_factory=list)
    """All that left the graph and should not have, with the number of the case: `--only NUMBER` repeats it."""

    def report(self, what: str) -> str:
        """The counts in words, and the raw exceptions."""
        rows = [f"{self.kinds.total():,} {what}: {len(self.raw)} raw exceptions; slowest {self.slowest:.2f} s"]
        for name, counts in (("cases", self.kinds), ("endings", self.endings)):
            rows.append(f"{name}: " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())))
        return "\n".join([*rows, *self.raw])


def flaw(result: dict[str, Any], reasons: frozenset[str]) -> str | None:
    """The fault of a graph's result: it must have a typed ending and be plain JSON. None: nothing."""
    if result.get("stop_reason") not in reasons:
        return f"no typed ending: {result.get('stop_reason')!r}"
    for step in result.get("steps", []):
        if (error := step.get("error")) and "\n" in error:
            return f"an error of several lines: {error!r}"
    told = {key: held for key, held in result.items() if key != "messages"}
    try:
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return f"a result that is no JSON: {error}"
    return None
