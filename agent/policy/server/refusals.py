"""The ways in which a server says no, and the errors that they become.

Checked against vLLM (`entrypoints/openai/engine/protocol.py`), SGLang (`srt/managers/tokenizer_manager.py`), llama.cpp
(`tools/server/README.md`) and FastAPI, on which the server of transformers runs.
Invariant: no message holds the `key` that the caller names, also where the server repeats it.
"""

from __future__ import annotations

import json
import re

from lensgraph.agent.policy.errors import PolicyError
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.redact import blot
from lensgraph.tools.safety.surrogates import whole

MESSAGE_CHARS = 200
"""Longest part of a server's text that a message repeats, in characters."""
_TOO_LONG = re.compile(
    r"maximum context length"  # vLLM, OpenAI, SGLang (prompt and completion together)
    r"|model's context length"  # SGLang (the prompt alone), later vLLM
    r"|maximum model length|too long to fit into the model"  # vLLM, when pictures make the prompt too long; older vLLM
    r"|available context size|exceed_context_size_error"  # llama.cpp
    r"|context_length_exceeded"  # OpenAI
    r"|At most \d+ image",  # vLLM, --limit-mm-per-prompt
    re.IGNORECASE,
)


class Transient(PolicyError):
    """A failure that may be over a moment later: no answer in time, one that broke off, or one that is no chat completion."""


class TooLong(PolicyError):
    """The request is longer than the server's context, or holds more pictures than it takes."""


class ErrorStatus(PolicyError):
    """The server answered with an error status."""

    def __init__(self, message: str, *, transient: bool) -> None:
        """`transient`: the same request may succeed a moment later."""
        super().__init__(message)
        self.transient = transient


def says_too_long(text: str) -> bool:
    """Whether a server's text says that the request is too long."""
    return bool(_TOO_LONG.search(text))


def is_too_long(status: int, body: bytes) -> bool:
    """Whether a refusal says that the request is too long. Older llama.cpp says so with status 500."""
    return status in (400, 413, 422, 500) and says_too_long(body.decode("utf-8", "replace"))


def is_loading(status: int, body: bytes) -> bool:
    """Whether a server is still loading its model, which llama.cpp says with 503 and `Loading model`."""
    return status == 503 and b"loading" in body.lower()


def server_message(body: bytes, key: str = "") -> str:
    """The error message in a body, on one line: OpenAI's and vLLM's `error.message`, SGLang's and older vLLM's flat
    `message`, FastAPI's `detail`, or plain text."""
    text = body.decode("utf-8", "replace")
    try:
        found = read_json(text)
    except ValueError:
        return first_line(text, key)
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found
    return first_line(found if isinstance(found, str) else json.dumps(found), key)


def first_line(text: str, key: str = "") -> str:
    """The beginning of a text on one line, without the key."""
    return " ".join(whole(blot(text, key)).split())[:MESSAGE_CHARS]
