"""Judge an answer by rules: words, dates, numbers and lists, compared as a fair person would.

Invariant: a match never rests on a part of the answer. Either the whole answer equals a gold after
normalisation (MMSearch-R1's, or one that also folds accents and hyphens), or it reads as one date, one number
or one list that agrees with the gold. "Guinea" is not "Equatorial Guinea", and "35" is not "3.5".
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

from lensgraph.tools.local.world.facts.relations import Tolerance

VERSION = "1"
"""Version of the rule. Raise it whenever an answer is judged otherwise: records of two versions are not mixed."""
MONTHS = "january february march april may june july august september october november december".split()
NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "mn": 1e6, "bn": 1e9}
UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), ("length", 1.0)),
    **dict.fromkeys(("km", "kms", "kilometre", "kilometres", "kilometer", "kilometers"), ("length", 1000.0)),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", 0.3048)),
    **dict.fromkeys(("mi", "mile", "miles"), ("length", 1609.344)),
    **dict.fromkeys(
        ("sq km", "km2", "km²", "square kilometres", "square kilometers", "square km", "sq. km"), ("area", 1.0)
    ),
    **dict.fromkeys(("sq mi", "mi2", "mi²", "square miles", "sq miles"), ("area", 2.589988)),
    **dict.fromkeys(("%", "percent", "per cent", "pct"), ("share", 1.0)),
    **dict.fromkeys(("years", "year", "yrs", "years old"), ("years", 1.0)),
    **dict.fromkeys(("people", "inhabitants", "persons", "residents"), ("people", 1.0)),
    **dict.fromkeys(("children", "children per woman", "children born/woman", "births per woman"), ("children", 1.0)),
    **dict.fromkeys(("us dollars", "dollars", "usd", "us$", "$"), ("dollars", 1.0)),
    **dict.fromkeys(("subscriptions", "mobile phone subscriptions", "mobile subscriptions"), ("subscriptions", 1.0)),
}
"""Unit -> its dimension and its size in the dimension's base unit."""

_HEDGE = re.compile(
    r"^(?:about|around|approximately|approx\.?|roughly|nearly|almost|some|over|more than|circa|ca\.?|~)\s*"
)
_YEAR_NOTE = re.compile(r"\s*\((?:\d{4}(?: est\.?)?|est\.?)\)$")
_DELETE = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """MMSearch-R1's normalisation: lower case, no ASCII punctuation, no articles, single spaces."""
    bare = text.lower().translate(_DELETE)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def fold(text: str) -> str:
    """The lenient normalisation: without accents and hyphens; `&` is `and`, `St.` is `Saint`, `Mt.` is `Mount`."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = plain.lower().replace("&", " and ").replace("ı", "i").replace("ł", "l").replace("ø", "o").replace("đ", "d")
    # the sign of a number is kept: UTC+3 is not UTC-3
    plain = re.sub(r"\s*[-−](?=\d)", " minus ", plain)
    plain = re.sub(r"\s*\+(?=\d)", " plus ", plain)
    plain = re.sub(r"[-‐‑‒–—/_]", " ", plain)
    plain = re.sub(r"\bst\.? (?=[a-z])", "saint ", plain)
    plain = re.sub(r"\bmt\.? (?=[a-z])", "mount ", plain)
    plain = re.sub(r"[’'`ʻʼ]", "", plain)
    plain = re.sub(r"[^\w\s.%$+]", " ", plain)
    plain = re.sub(r"\.(?!\d)", "", plain)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def match(answer: str | None, golds: Iterable[str], tolerance: Tolerance | None = None) -> bool:
    """Whether `answer` equals any of `golds`, within `tolerance`.

    An empty or missing answer is wrong, also where a gold normalises to nothing (unlike MMSearch-R1's own
    scorer).
    """
    given = _tidy(answer or "")
    if not given or not fold(given):
        return False
    return any(_equal(given, gold, tolerance or {}) for gold in golds)


def _tidy(text: str) -> str:
    text = text.strip().strip("\"'“”‘’").strip()
    return text[:-1].strip() if text.endswith(".") and text.count(".") == 1 else text


def _equal(given: str, gold: str, tolerance: Tolerance) -> bool:
    wanted = date(gold)
    if wanted is not None:
        return date(given) == wanted
    if tolerance.get("unordered") and _list(given) == _list(gold):
        return True
    measured = number(gold)
    if measured is None:
        if not fold(gold):
            return False
        signed = re.search(r"[-−+]\d", gold)
        return fold(given) == fold(gold) or (not signed and normalise(given) == normalise(gold))
    found = number(given, tolerance.get("unit"))
    if found is None:
        return False
    value, unit = found
    goal, goal_unit = measured
    goal_unit = goal_unit or tolerance.get("unit", "")
    here, there = UNITS.get(unit or goal_unit), UNITS.get(goal_unit)
    if unit and goal_unit and unit != goal_unit:
        if here is None or there is None or here[0] != there[0]:
            return False
        value, goal = value * here[1], goal * there[1]
    elif unit and not goal_unit:
        return False
    # converted floats are off by rounding
    return abs(value - goal) <= max(tolerance.get("relative", 0.0) * abs(goal), 1e-9)


def _list(text: str) -> list[str]:
    return sorted(part for part in (fold(p) for p in re.split(r",|\band\b|;|&", text)) if part)


def date(text: str) -> tuple[int, int, int | None] | None:
    """Day, month and year (None when not given) of a text that is one date and nothing else."""
    plain = re.sub(r"\b(\d{1,2})(?:st|nd|rd|th)\b", r"\1", text.lower())
    plain = re.sub(r"\b(?:on|the|of)\b", " ", plain)
    words = re.sub(r"[,.()]", " ", plain).split()
    iso = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text.strip())
    if iso:
        return int(iso[3]), int(iso[2]), int(iso[1])
    if len(words) not in (2, 3) or (len(words) == 3 and not re.fullmatch(r"\d{3,4}", words[2])):
        return None
    year = int(words[2]) if len(words) == 3 else None
    first, second = words[:2]
    if first in _MONTH and second.isdigit():
        first, second = second, first
    if second in _MONTH and first.isdigit() and 1 <= int(first) <= 31:
        return int(first), _MONTH[second], year
    return None


_MONTH = {name: i + 1 for i, name in enumerate(MONTHS)} | {name[:3]: i + 1 for i, name in enumerate(MONTHS)}

_NUMBER = re.compile(
    r"(?P<sign>[-−]?)(?P<money>\$|us\$)?\s*(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[a-z]+)"
    r"(?:\s*(?P<scale>thousand|million|billion|trillion|mn|bn))?\s*(?P<unit>.*)"
)


def number(text: str, expected_unit: str | None = None) -> tuple[float, str] | None:
    """Value and unit ("" when not given) of a text that is one number and nothing else.

    Words after the number must be a known unit, or `expected_unit`.
    """
    plain = _YEAR_NOTE.sub("", text.strip().lower().rstrip("."))
    plain = _HEDGE.sub("", plain)
    found = _NUMBER.fullmatch(plain)
    if not found:
        return None
    word = found["value"]
    if word[0].isdigit():
        value = float(word.replace(",", ""))
    elif word in NUMBER_WORDS:
        value = float(NUMBER_WORDS[word])
    else:
        return None
    unit = found["unit"].strip().rstrip(".")
    if unit and unit not in UNITS and unit != expected_unit:
        return None
    if found["money"] and unit and UNITS.get(unit, ("",))[0] != "dollars":
        return None
    value *= SCALES.get(found["scale"] or "", 1.0)
    return (-value if found["sign"] else value), unit or ("us dollars" if found["money"] else "")
