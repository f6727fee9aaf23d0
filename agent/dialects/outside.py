"""Text from outside, made harmless before a policy reads it.

Invariant: `neutral(x)` holds no `<`, so it can neither close its wrapper nor open a tag nor spell a chat control token
(`<|im_end|>`, `<eos>`), whatever the dialect or the tokenizer; bracket control tokens (`[INST]`) lose their brackets;
characters that hide text (bidirectional overrides, zero-width spaces, tag characters) are gone.

Not covered: text that persuades in plain words. What a page says is still only evidence; answers and actions are read
from the policy's own turns.
"""

from __future__ import annotations

import re

_LESS_THAN = str.maketrans({"<": "\u2039", "\uff1c": "\u2039", "\ufe64": "\u2039"})
"""`<` and the characters that compatibility normalisation (some tokenizers do it) would turn into `<`."""
_BRACKET_TOKEN = re.compile(r"\[(/?[A-Za-z]?[A-Z_]{3,})\]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPACE = re.compile(r"[ \t]+")


def neutral(text: str) -> str:
    """`text` without anything that a parser, a chat template or a tokenizer could take for structure."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _BRACKET_TOKEN.sub(r"(\1)", _HIDDEN.sub("", text).translate(_LESS_THAN))


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
