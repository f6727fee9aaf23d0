"""The keys of a run's input: one that is not known is an error, because LangGraph would drop it and answer without it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from lensgraph.agent.errors import BadInput
from lensgraph.agent.state import AskInput, AskOutput

KEYS = tuple(AskInput.__annotations__)
KNOWN = {*KEYS, *AskOutput.__annotations__}
"""Output keys as well: the output of one graph may be the input of another."""
MEANT = {
    "images": ("image", "picture", "pictures", "photo", "photos", "img", "imgs", "image_url", "image_urls", "image_path",
               "image_paths", "imageUrl", "imagePath", "file", "files", "attachment", "attachments"),
    "question": ("query", "prompt", "text", "input", "ask", "q"),
    "messages": ("message", "chat", "history", "chat_history"),
}  # fmt: skip
"""Words that people write for a key."""


def check_keys(given: Mapping[Any, Any], *, embedded: bool) -> None:
    """Refuse an unknown key of an input.

    `embedded`: a graph around this one passes its whole state. Its other keys are its own, except that a key for a picture
    must not be passed over where no picture comes otherwise.

    Raises:
        BadInput: an unknown key; the message says which one is meant.
    """
    unknown = [key for key in given if key not in KNOWN]
    if embedded:
        pictures = given.get("images") is not None or given.get("messages")
        unknown = [key for key in unknown if key in MEANT["images"] and given[key] is not None and not pictures]
    if unknown:
        raise BadInput(
            f"Unknown input key {str(unknown[0])[:60]!r}{_meant(str(unknown[0]))} (valid: {', '.join(KEYS)})."
        )


def _meant(key: str) -> str:
    alike = difflib.get_close_matches(key.lower(), KEYS, n=1)
    meant = next((name for name, words in MEANT.items() if key in words), alike[0] if alike else None)
    return f"; did you mean `{meant}`?" if meant else ""
