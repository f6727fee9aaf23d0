"""The settings that decide a tool's answers, as text: two tools share answers only if their texts are equal.

A tool declares them as its fields. All count, except those that its class lists in `irrelevant_to_answers` or declares with
`exclude=True`, and those by which LangChain watches, paces or describes a call.

Invariant: what cannot be told apart is never taken for equal. A tool with a field that is no plain value, such as a function
or a connection, has no identity and is not cached. Not covered: private attributes, and what code reads from elsewhere.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from pathlib import PurePath
from types import ModuleType
from typing import Any

from langchain_core.runnables import RunnableSerializable
from langchain_core.tools import BaseTool
from pydantic import BaseModel
from pydantic.types import SecretBytes, SecretStr

from lensgraph.tools.safety.redact import is_credential

WATCHING = frozenset({"callbacks", "callback_manager", "verbose", "tags", "metadata", "cache", "rate_limiter"})
"""Fields of LangChain's tools, retrievers and models that watch a call, keep it or pace it."""
DESCRIBING = frozenset(BaseTool.model_fields) - {"name"}
"""Fields of LangChain's tools that describe a tool to an agent or say what becomes of its errors."""


def identity(model: BaseModel) -> str | None:
    """The class and the deciding settings of a tool or model, the same in every process and without keys; None: a setting
    cannot be told apart from another."""
    try:
        return json.dumps(_told(model), sort_keys=True)
    except (_Untellable, RecursionError):  # the latter: a value that holds itself
        return None


class _Untellable(Exception):
    """A value that cannot be told apart from another."""


def _told(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, SecretStr | SecretBytes):
        return None
    if isinstance(value, BaseModel):
        return {"class": _name(type(value)), "fields": _told(_deciding(value))}
    if isinstance(value, Mapping):
        return {str(name): _told(item) for name, item in value.items() if not is_credential(str(name))}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, set | frozenset):  # their order differs from process to process
        return sorted((_told(item) for item in value), key=json.dumps)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, type | ModuleType):
        return _name(value)
    raise _Untellable(type(value).__name__)


def _deciding(model: BaseModel) -> dict[str, Any]:
    ignored = set(getattr(type(model), "irrelevant_to_answers", ()))
    if isinstance(model, RunnableSerializable):
        ignored |= WATCHING
    if isinstance(model, BaseTool):
        ignored |= DESCRIBING
    fields = type(model).model_fields.items()
    declared = {name: getattr(model, name) for name, field in fields if name not in ignored and not field.exclude}
    return declared | (model.model_extra or {})


def _name(thing: type | ModuleType) -> str:
    """The import path of a class or module. A class that a function makes anew each time has none."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    if "<" in thing.__qualname__:
        raise _Untellable(thing.__qualname__)
    return f"{thing.__module__}:{thing.__qualname__}"
