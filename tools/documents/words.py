"""Words as the text search compares them: lower case, without accents, without inflection.

Invariant: folding keeps the length of the text, so a position in the folded text is a position in the original. The stemmer
only removes English inflections (plural, -ed, -ing); derived words stay apart, because stems decide which line of a page
answers, not which page is found.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

WORD = re.compile(r"[^\W_]+", re.UNICODE)

STOP_WORDS = frozenset(
    (
        "a an and are as at be been by can did do does for from had has have how i in is it its me my of on or s tell "
        "than that the their them there these this those to was were what when where which who whom whose why will with "
        "you your"
    ).split()
)
"""Words that never decide which page or line is meant."""


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    base = unicodedata.normalize("NFKD", character)[:1].lower()
    return base if len(base) == 1 else character


def fold(text: str) -> str:
    """Lower case without accents, of the same length."""
    if text.isascii():
        return text.lower()
    return "".join(c.lower() if c.isascii() else _fold_character(c) for c in text)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A folded word without its English inflection."""
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ing") and len(word) > 5:
        word = word[:-3]
    elif word.endswith("ed") and len(word) > 4:
        word = word[:-2]
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    return word


def words(text: str) -> list[str]:
    """The folded words of a text, in order."""
    return WORD.findall(fold(text))


def stems(text: str) -> list[str]:
    """The stems of a text, in order."""
    return [stem(word) for word in words(text)]


def query_words(query: str) -> list[str]:
    """The distinct words of a query that carry meaning; all of them when none does."""
    distinct = list(dict.fromkeys(words(query)))
    return [word for word in distinct if word not in STOP_WORDS] or distinct
