"""Text from outside made harmless before a model reads it.

Invariant: `neutral(x)` holds no `<`, also after Unicode normalisation, so it can neither close its wrapper nor open a tag
nor spell a chat control token (`<|im_end|>`, `<eos>`), whatever the dialect or the tokenizer; bracket control tokens
(`[INST]`) and the headings of search results lose their brackets; characters that hide text (bidirectional overrides,
zero-width spaces, tag characters, fillers) are gone.

Not covered: text that persuades in plain words. What a page says is still only evidence; answers and actions are read
from the policy's own turns.
"""

from __future__ import annotations

import re
import unicodedata

_LESS_THAN = str.maketrans({"<": "\u2039", "\uff1c": "\u2039", "\ufe64": "\u2039", "\u226e": "\u2039"})
"""`<` and the characters that normalisation (some tokenizers do it) would turn into `<`."""
_OPEN, _CLOSE = "[\\[\uff3b\ufe47]", "[\\]\uff3d\ufe48]"
"""Square brackets, and what normalisation turns into them."""
_IN_BRACKETS = re.compile(f"{_OPEN}([^\\[\\]\n]{{3,60}}){_CLOSE}")
_TOKEN = re.compile(r"/?[A-Za-z]?[A-Z_]{3,}|[A-Z][a-z]+ Search Results")
_JOINERS = re.compile("[\u200c\u200d]")
"""Invisible, but kept elsewhere: scripts and emoji need them."""
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u2028-\u202e\u2060-\u2069\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e01ef]"
)
_NUMBER = re.compile(r"^(\d+)\.(?=\s|$)")
_SPACE = re.compile(r"[ \t]+")


def neutral(text: str) -> str:
    """`text` without anything that a parser, a chat template or a tokenizer could take for structure."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _IN_BRACKETS.sub(_without_brackets, _HIDDEN.sub("", text).translate(_LESS_THAN))


def _without_brackets(found: re.Match[str]) -> str:
    inside = _JOINERS.sub("", unicodedata.normalize("NFKC", found[1]))
    return f"({inside})" if _TOKEN.fullmatch(inside.strip()) else found[0]


def line(text: str, limit: int) -> str:
    """Outside text as one line of at most `limit` characters, so that it cannot forge a further numbered result.

    Line breaks between labelled lines become `; `, because the break carried meaning.
    """
    lines = (_SPACE.sub(" ", part).strip() for part in neutral(text).split("\n"))
    joined = ""
    for part in filter(None, lines):
        glue = "" if not joined else " " if joined[-1] in ".;:!?," else "; "
        joined += glue + part
    return joined if len(joined) <= limit else joined[: limit - 1].rstrip() + "\u2026"


def entry(text: str, limit: int) -> str:
    """As `line`, for text that begins a line of its own below a numbered title: `3. ` becomes `3) `, so that it does not
    begin as the next result would."""
    return _NUMBER.sub(r"\1)", line(text, limit))
