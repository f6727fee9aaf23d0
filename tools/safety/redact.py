"""Keys taken out of text that somebody else wrote, in every form in which they may come back.

Invariant: the result of `blot` holds the key neither as it is, nor as JSON may write it (`\\/`, `\\u002f`, also twice
escaped), nor as an address may (`%2F`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
"""Stands where a key was."""
_CREDENTIAL = re.compile(
    r"(?:^|_)(?:(?:api|access|subscription|private|secret)_?keys?(?:_id)?|secrets?|passwords?|credentials?|authorization"
    r"|(?:access|auth|api|bearer|hf|session|subscription)_token)$|^token$"
)
_PERHAPS = re.compile(r"(?:^|_)(?:keys?|token)$")
"""Further names that hold a key more often than not."""
_OF_A_VOCABULARY = re.compile(
    r"(?:^|_)(?:bos|eos|pad|unk|sep|cls|mask|start|stop|end|first|last|image|video|vision)_token$"
)
"""Names of tokens that a model reads, which end like the names of secrets."""
_SIGNED = frozenset({"appid", "app_id", "sig", "signature", "x_amz_signature", "x_amz_credential", "x_goog_signature"})
"""Further parameters of addresses whose values open something."""
_KEY = re.compile(
    r"(?:sk[-_][\w-]{8}|tvly-|(?:hf|gsk|nvapi|jina|[pr]k_(?:live|test))[-_][A-Za-z0-9]{12}|AIza|gh[pousr]_[A-Za-z0-9]{12}"
    r"|github_pat_|glpat-|xox[abprs]-|A[KS]IA[A-Z0-9]{12}|BSA[\w-]{20}|lsv2_|eyJ[\w-]{16})"
)
"""Beginnings of keys of well-known services."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Some services give such keys; others name models and tenants so."""
_LOGIN = re.compile(r"(?<=//)(?:[^\s/?#]*|(?!\[)[^\s/@:]*:(?!\d+[/?#])\S*)@")
"""User and password in an address; a password may hold characters that should have been escaped."""
_PARAMETER = re.compile(r"(?<=[?&])([\w-]+)=[^\s&#'\"]*[^\s&#'\":;,.)]")
_PARTS = re.compile(r"([=:&?]+)")
"""Separators between the parts of a setting or an address."""
_PATH = re.compile(
    r"""(?P<quote>['"])(?:file:)?(?:~|[A-Za-z]:)?[/\\](?:(?!(?P=quote)).)*(?P=quote)"""
    r"""|\bfile:/[^\s'",;()]*|(?<![\w:/.<~'"-])(?:~|[A-Za-z]:)?[/\\][\w.~-][^\s'",;:()]*"""
)
"""An absolute path: in quotes, as a `file:` address, or bare. No part of an address, a fraction or a closing tag."""
_DATA = re.compile(r"(base64,)?([\w+/=-]{32,})")
"""Perhaps base64, such as a picture that a server repeats."""
_ALTERNATION = re.compile(r"(?<=[a-zA-Z])\d|(?<=\d)[a-zA-Z]")
_WORD = re.compile(r"[^\s'\",;()<>\[\]{}]+")


def looks_like_key(text: str) -> bool:
    """Whether a text that was written where no key belongs may be one all the same.

    It begins like the keys of a known service, or holds a long run of letters and digits that alternate too often for a name,
    as in `3fa9c0d2e7b84a51`. A text with a dot in it, or a path, is no such run.
    """
    text = text.strip().lstrip("-")
    if _KEY.match(text) or _UUID.match(text):
        return True
    runs = re.findall(r"[A-Za-z0-9]+", text) if re.fullmatch(r"[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]*", text) else []
    return any(len(run) >= 12 and len(_ALTERNATION.findall(run)) >= 3 for run in runs)


def without_logins(text: str) -> str:
    """A message whose addresses show neither user nor password (`postgresql://***@host/name`), nor the value of a parameter
    that holds a key or a signature."""

    def hide(parameter: re.Match[str]) -> str:
        secret = is_secret(parameter[1]) or parameter[1].lower().replace("-", "_") in _SIGNED
        return f"{parameter[1]}={HIDDEN}" if secret else parameter[0]

    return _PARAMETER.sub(hide, _LOGIN.sub(f"{HIDDEN}@", text))


def without_data(text: str) -> str:
    """A message in which long runs of base64 are hidden: a server or a library may repeat the picture that it was sent.

    Outside of a data URI it shows by its letters and digits, which alternate at every fourth character; a path or a name in
    which they do so at every eighth is hidden as well.
    """

    def hide(run: re.Match[str]) -> str:
        data = run[1] or len(_ALTERNATION.findall(run[2])) >= len(run[2]) / 8
        return f"{run[1] or ''}{HIDDEN}" if data else run[0]

    return _DATA.sub(hide, text)


def hide_data(error: BaseException) -> BaseException:
    """The exception without them, because tracers and checkpoints keep its text: in its arguments, its notes, the exceptions
    behind it and those of a group. One that writes such a text by itself is replaced by a `RuntimeError` that names it."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.args = tuple(map(_without_data_in, one.args))
        if getattr(one, "__notes__", None):
            one.__notes__ = [without_data(str(note)) for note in one.__notes__]
        waiting += [behind for behind in (one.__cause__, one.__context__) if behind is not None]
        waiting += getattr(one, "exceptions", ())
    said = str(error)
    return error if without_data(said) == said else RuntimeError(f"{type(error).__name__}: {without_data(said)}")


def _without_data_in(value: object) -> object:
    """An argument of an exception; what is no text is hidden whole where it holds data."""
    if isinstance(value, str):
        return without_data(value)
    if isinstance(value, BaseException) or (isinstance(value, tuple | list) and any(map(_is_error, value))):
        return value  # a group's: each is looked at by itself
    return HIDDEN if isinstance(value, bytes | bytearray) or without_data(repr(value)) != repr(value) else value


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def without_keys(text: str) -> str:
    """A message in which whatever looks like a key is hidden, also behind the `=` of a setting, and logins in addresses."""

    def hide(word: re.Match[str]) -> str:
        parts = _PARTS.split(word[0])
        return (
            HIDDEN if looks_like_key(word[0]) else "".join(HIDDEN if looks_like_key(part) else part for part in parts)
        )

    return _WORD.sub(hide, without_logins(text))


def without_paths(text: str, known: str = "") -> str:
    """A message in which absolute paths are hidden, except those that stand in `known`: what the reader wrote himself."""
    return _PATH.sub(lambda found: found[0] if found[0].strip("'\"") in known else "(a path)", text)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret: `api_key`, `X-Subscription-Token`, but neither `api_key_env` nor
    `max_new_tokens` nor `eos_token`."""
    name = name.lower().replace("-", "_")
    return is_credential(name) or (bool(_PERHAPS.search(name)) and not _OF_A_VOCABULARY.search(name))


def is_credential(name: str) -> bool:
    """Whether a setting of this name can hold nothing but a secret: `api_key`, but not `key`."""
    return bool(_CREDENTIAL.search(name.lower().replace("-", "_")))


def begins_like_key(text: str) -> bool:
    """Whether a text begins like the keys of a known service. Narrower than `looks_like_key`: no name of a file or a model
    is taken for one because of its digits."""
    return bool(_KEY.match(text.strip()))


def shown(path: Iterable[Any], value: Any) -> str:
    """A value as an error may show it: hidden where it looks like a key, or its name, or one above it, is a
    secret's; of a record the keys only."""
    if any(is_secret(str(part)) for part in path):
        return HIDDEN
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: ...' for name in value)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{len(value)} value{'' if len(value) == 1 else 's'}]"
    if isinstance(value, str) and looks_like_key(value):
        return HIDDEN
    return without_logins(repr(value))


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
