"""Halves of characters out of text from outside.

Services that cut snippets by UTF-16 units, as JavaScript does, may cut an emoji in two; its JSON (`"\\ud83d"`) is read as a
lone surrogate, which no file, database, hash or message can hold. Invariant: what `whole` returns can be encoded as UTF-8.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def whole(text: str) -> str:
    """The text with U+FFFD where half a character stands; two halves that belong together become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


Text = Annotated[str, AfterValidator(whole)]
"""A field for text from outside."""
