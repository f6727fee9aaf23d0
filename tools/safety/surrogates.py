"""Text from outside without half characters.

Services that cut snippets by UTF-16 units, as JavaScript does, may cut an emoji in two; its JSON (`"\\ud83d"`) is read as a
lone surrogate, which no file, database, hash or message can hold. Invariant: the result of `whole` can be encoded as UTF-8.
"""

from __future__ import annotations


def whole(text: str) -> str:
    """The text with U+FFFD in place of half a character; two halves that belong together become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
