"""What of a tool decides its answers, as text that is the same in every process: two tools with one text share answers.

It is the tool's class and every setting that can change an answer. Keys, clocks, prices and tries cannot, nor can a field that
is declared with `exclude=True`, nor who listens (callbacks, tags, metadata of a tool or model inside). Told are plain values,
records, pydantic models and objects by their attributes, functions and classes by their names, methods with the object that
they belong to, and partial calls with what they fix.

Invariant: what cannot be told is never taken for equal. A tool with such a setting (a lambda or a function made inside
another, an object without attributes such as a connection) has no identity and is not cached; declare the field with
`exclude=True` if it decides nothing. Not covered: values that a function takes from the globals of its module.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from langchain_core.load.serializable import Serializable
from pydantic import BaseModel
from pydantic.types import SecretBytes, SecretStr

from lensgraph.tools.safety.redact import is_credential, is_secret

LISTENERS = frozenset({"callbacks", "callback_manager", "verbose", "tags", "metadata", "cache", "rate_limiter"})
"""Fields of LangChain's tools and models that watch a call, keep it or pace it."""
DEEPEST = 12
"""Most levels of settings inside settings; deeper ones hold themselves."""
_HEAPTYPE = 1 << 9
"""CPython's flag of classes that were made by a class statement."""
MOST = 2_000
"""Most values that one tool may consist of: an object with more is no setting."""


class _Untellable(Exception):
    """This setting cannot be told apart from another."""


def identity(tool: BaseModel, ignored: frozenset[str] = frozenset()) -> str | None:
    """What of a tool decides its answers, without the fields in `ignored`. None: that cannot be told."""
    try:
        return json.dumps(_Teller().tell(tool, ignored), sort_keys=True, ensure_ascii=True)
    except _Untellable:
        return None


class _Teller:
    """Goes through the settings of one tool."""

    def __init__(self) -> None:
        self.seen = 0

    def tell(self, value: Any, ignored: frozenset[str] = frozenset(), depth: int = 0) -> Any:
        self.seen += 1
        if depth > DEEPEST or self.seen > MOST:
            raise _Untellable
        if isinstance(value, enum.Enum):
            return f"{_name(type(value))}.{value.name}"
        if isinstance(value, str | int | float | bool) or value is None:
            return value
        if isinstance(value, SecretStr | SecretBytes):
            return None
        if isinstance(value, BaseModel):
            return {"class": _name(type(value)), "fields": self.named(_fields(value, ignored), depth)}
        if isinstance(value, Mapping):
            return self.named({str(name): item for name, item in value.items()}, depth)
        if isinstance(value, list | tuple):
            return [self.tell(item, depth=depth + 1) for item in value]
        if isinstance(value, set | frozenset):
            return sorted((self.tell(item, depth=depth + 1) for item in value), key=repr)
        if isinstance(value, bytes | bytearray):
            return hashlib.sha256(value).hexdigest()
        if isinstance(value, PurePath):
            return str(value)
        return self.code_or_object(value, depth)

    def named(self, values: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Values by their names: a key is left out, and of what may be one or may be a setting (`sort_key`) stays a digest."""
        told = {name: self.tell(item, depth=depth + 1) for name, item in values.items() if not is_credential(name)}
        return {name: _digest(item) if is_secret(name) else item for name, item in told.items()}

    def code_or_object(self, value: Any, depth: int) -> Any:
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, type):
            return _name(value)
        if isinstance(value, functools.partial):
            return {"partial": [self.tell(part, depth=depth + 1) for part in (value.func, value.args, value.keywords)]}
        if isinstance(value, types.MethodType):
            return {"method": _name(value), "of": self.tell(value.__self__, depth=depth + 1)}
        if isinstance(value, types.FunctionType):
            # What a decorator keeps in a closure, such as the function that it wraps, is part of it.
            try:
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
            except ValueError:  # a cell that is still empty
                raise _Untellable from None
            return {"function": _name(value), "with": self.tell(cells, depth=depth + 1)} if cells else _name(value)
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            if owner is None or isinstance(owner, types.ModuleType):
                return _name(value)
            return {"method": _name(value), "of": self.tell(owner, depth=depth + 1)}
        if any(_hides(kind) for kind in type(value).__mro__):
            raise _Untellable
        try:
            attributes = vars(value)
        except TypeError:
            raise _Untellable from None
        return {"class": _name(type(value)), "attributes": self.named(dict(attributes), depth)}


def _hides(kind: type) -> bool:
    """Whether objects of this class keep something outside of their dictionary: in slots, or in C."""
    of_python = bool(kind.__flags__ & _HEAPTYPE)
    return kind is not object and (not of_python or bool(kind.__dict__.get("__slots__")))


def _fields(model: BaseModel, ignored: frozenset[str]) -> dict[str, Any]:
    if isinstance(model, Serializable):  # LangChain's tools and models are
        ignored = ignored | LISTENERS
    declared = {name for name, field in type(model).model_fields.items() if name not in ignored and not field.exclude}
    return {name: getattr(model, name, None) for name in declared} | dict(model.model_extra or {})


def _name(thing: Any) -> str:
    """Where a class or a function is defined; one that is made anew each time another function runs has no such place."""
    name = getattr(thing, "__qualname__", "<none>")
    if "<" in name:
        raise _Untellable
    return f"{thing.__module__}:{name}"


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
