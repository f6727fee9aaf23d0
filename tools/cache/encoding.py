"""An answer as bytes in the table, and back.

Invariant: only answers are kept, and the finding that there is none; any other failure has no bytes.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lensgraph.tools.results import ToolFailure

R = TypeVar("R", bound=BaseModel)
_EMPTY = b"empty "
_ANSWER = b"answer "


def encode(outcome: BaseModel | Exception) -> bytes | None:
    """The bytes of an answer, or of a `ToolFailure` of the reason `empty`; None: it is not kept."""
    if isinstance(outcome, Exception):
        return _EMPTY + str(outcome).encode("utf-8", "surrogatepass")
    error = getattr(outcome, "error", None)
    if error is not None and error.reason != "empty":
        return None
    return _ANSWER + outcome.model_dump_json().encode()


def decode(value: bytes, read: type[R]) -> R | Exception | None:
    """The answer, marked as cached and free, or the `ToolFailure`; None: another version wrote these bytes, or they are
    damaged."""
    if not isinstance(value, bytes):
        return None
    if value.startswith(_EMPTY):
        return ToolFailure("empty", value[len(_EMPTY) :].decode("utf-8", "replace"))
    try:
        return for_free(read.model_validate_json(value[len(_ANSWER) :]))
    except ValidationError:
        return None


def for_free(answer: R) -> R:
    """The answer as it is given to a caller that paid nothing for it."""
    return answer.model_copy(update={"cached": True, "price": 0.0})
