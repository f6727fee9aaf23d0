"""The rules of DeepMMSearch-R1's judge (arXiv 2510.12801, appendix E.6) that need no model.

Granted: everything that `lensgraph.rl.tasks.match` grants (articles, case, punctuation, units, numbers in
words), the same words in another order, a gold rounded to the answer's own decimals, and a range of numbers
that holds the gold.

Not granted, because only a reader can tell: synonyms and aliases (`NYC` for `New York City`), an answer
within a sentence, paraphrases. Two bounds are ours, so that no policy is paid for a vague answer: `ROUNDED`
and `WIDEST`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lensgraph.rl.tasks.match import match, normalise, number

ROUNDED = 0.01  # a rounded number may be this share of the gold away from it
WIDEST = 0.25  # a range may be this share of its middle wide
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:to|-|–|and)\s*(\d+(?:\.\d+)?)")
_PLAIN = re.compile(r"\d+(?:\.(\d+))?")


def right(answer: str | None, golds: Iterable[str]) -> bool:
    """Whether the rules grant that `answer` is one of `golds`."""
    golds = list(golds)
    if match(answer, golds):
        return True
    return answer is not None and any(
        _same_words(answer, gold) or _rounds(answer, gold) or _holds(answer, gold) for gold in golds
    )


def _same_words(answer: str, gold: str) -> bool:
    given = sorted(normalise(answer).split())
    # the order of numbers may mean something, such as the score of a game
    return bool(given) and not re.search(r"\d", gold) and given == sorted(normalise(gold).split())


def _rounds(answer: str, gold: str) -> bool:
    given, wanted = _PLAIN.fullmatch(answer.strip()), _PLAIN.fullmatch(gold.strip())
    if not given or not wanted or len(given[1] or "") >= len(wanted[1] or ""):
        return False
    value, goal = float(given[0]), float(wanted[0])
    half = 0.5 * 10.0 ** -len(given[1] or "")
    return abs(value - goal) <= min(half, ROUNDED * abs(goal))


def _holds(answer: str, gold: str) -> bool:
    ends, goal = _RANGE.fullmatch(re.sub(r"^between\s+", "", answer.strip().lower())), number(gold)
    if not ends or goal is None or goal[1]:  # a range without a unit says too little about a gold with one
        return False
    low, high = float(ends[1]), float(ends[2])
    return low <= goal[0] <= high and high - low <= WIDEST * (low + high) / 2
