"""A key taken out of text that somebody else wrote, in every form in which it may come back.

Invariant: what `blot` returns holds the key neither as it is, nor as JSON may write it (`\\/`, `\\u002f`, also twice
escaped), nor as an address may (`%2F`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
"""What stands where a key was."""
_SECRET = re.compile(
    r"(?:^|_)(?:(?:api|access|subscription|private|secret)_?key(?:_id)?|secret|password|credentials?|authorization"
    r"|(?:access|auth|api|bearer|hf|session)_token)$|^token$"
)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret: `api_key`, but neither `api_key_env` nor `max_new_tokens`."""
    return bool(_SECRET.search(name.lower().replace("-", "_")))


def shown(path: Iterable[Any], value: Any) -> str:
    """A value as an error may show it: hidden where its name, or one above it, is a secret's; of a record the keys only."""
    if any(is_secret(str(part)) for part in path):
        return HIDDEN
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: ...' for name in value)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{len(value)} value{'' if len(value) == 1 else 's'}]"
    return repr(value)


def blot(text: str, key: str) -> str:
    """The text without the key; an empty key stands nowhere."""
    return _forms(key).sub(HIDDEN, text) if key else text


def blot_bytes(body: bytes, key: str) -> bytes:
    """The same for text that is not decoded yet, whatever its encoding."""
    return blot(body.decode("latin-1"), key.encode().decode("latin-1")).encode("latin-1") if key else body


def blot_tree(value: Any, key: str) -> Any:
    """The same for all strings of parsed JSON, names included."""
    if isinstance(value, str):
        return blot(value, key)
    if isinstance(value, list):
        return [blot_tree(item, key) for item in value]
    if isinstance(value, dict):
        return {blot(name, key): blot_tree(item, key) for name, item in value.items()}
    return value


@functools.lru_cache(maxsize=32)
def _forms(key: str) -> re.Pattern[str]:
    """Every character of the key as it is, behind backslashes, as `\\u....` or as `%..`. The count of backslashes has a
    bound: without one, a body full of them would take for ever."""
    return re.compile("".join(_form(character) for character in key))


def _form(character: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    escaped = "".join(
        rf"\\{{1,4}}u{int.from_bytes(pair, 'big'):04x}"
        for pair in _pairs(character.encode("utf-16-be", "surrogatepass"))
    )
    return rf"(?:\\{{0,4}}{re.escape(character)}|(?i:{escaped}|{percent}))"


def _pairs(data: bytes) -> list[bytes]:
    return [data[place : place + 2] for place in range(0, len(data), 2)]
