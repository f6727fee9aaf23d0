"""Published pickles read without being run.

A pickle is a program. Its instructions are read one by one here, and only those that build plain values are followed: texts,
bytes, numbers, lists, tuples and dicts. `pickle.Unpickler` with a `find_class` of its own would not do: a file of 307 bytes
makes it hash a tuple for ever, and one of 8 bytes makes it allocate room for 2 ** 31 values.

Invariant: nothing in the file is imported, called or constructed, and reading takes time and memory in proportion to its
size. The name of a class or function is refused or, where the caller expects it, kept as a name in a record (`Built`), from
which the caller may make what it thinks safe.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lensgraph.tools.safety.one_line import one_line


class UnsafePickle(ValueError):
    """The pickle holds more than plain values and expected records, or is damaged. One line; nothing was executed."""


@dataclass(eq=False)
class Built:
    """An object that an instruction would have made: a record of its parts, never the object."""

    name: str
    """`module.name` of the class or function."""
    arguments: tuple[Any, ...] = ()
    """Arguments of the call."""
    state: Any = None
    """State that would have been set on the object."""


@dataclass(frozen=True)
class _Name:
    name: str


class _Mark:
    """Marks the beginning of a group of values."""


_MARK = _Mark()
_SCALARS = (str, bytes, int, float, bool, type(None))
_PUSHED = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT",
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_BYTES = "_codecs.encode"
"""The function by which protocols 0 to 2 write bytes: called with a text and `latin1`."""
_OBJECT = "copyreg._reconstructor"
"""The function by which protocols 0 and 1 write an object: called with its class, `object` and None."""
_OLD_MODULES = {"copy_reg": "copyreg", "__builtin__": "builtins"}


def read(data: bytes, *, kept: Callable[[str], bool] = lambda name: False) -> Any:
    """The plain value that a pickle holds.

    Args:
        data: the pickle, of any protocol.
        kept: whether a name (`module.Class`) may stand in it; objects of such a class come back as `Built` records.

    Raises:
        UnsafePickle: it holds anything else, or is no pickle.
    """
    try:
        return _OpcodeReader(kept).run(data)
    except UnsafePickle:
        raise
    except Exception as error:  # pickletools raises several kinds on bytes that are no pickle
        raise UnsafePickle(f"not a readable pickle ({one_line(error, 120)}); it was not executed") from error


class _OpcodeReader:
    """The stack and the memo of one reading."""

    def __init__(self, kept: Callable[[str], bool]) -> None:
        self.kept = kept
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            self.step(opcode.name, argument)
        if len(self.stack) != 1 or isinstance(self.stack[0], _Name | _Mark):
            raise UnsafePickle("the pickle holds no value; it was not executed")
        return self.stack[0]

    def step(self, opcode: str, argument: Any) -> None:
        """Follow one instruction, or refuse it."""
        stack = self.stack
        if opcode in _PUSHED:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            parts = tuple(self.pop() for _ in range(count))
            stack.append(parts[::-1])
        elif opcode in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if opcode == "EMPTY_LIST" else {})
        elif opcode == "MARK":
            stack.append(_MARK)
        elif opcode in ("TUPLE", "LIST", "DICT"):
            group = self.group()
            stack.append(tuple(group) if opcode == "TUPLE" else group if opcode == "LIST" else _filled({}, group))
        elif opcode in ("APPEND", "APPENDS"):
            group = [self.pop()] if opcode == "APPEND" else self.group()
            self.top(list).extend(group)
        elif opcode in ("SETITEM", "SETITEMS"):
            group = [self.pop(), self.pop()][::-1] if opcode == "SETITEM" else self.group()
            _filled(self.top(dict), group)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "POP":
            stack.pop()
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            self.name(argument if opcode == "GLOBAL" else " ".join((self.pop(), self.pop())[::-1]))
        elif opcode in ("NEWOBJ", "REDUCE"):
            arguments, name = self.pop(), self.pop()
            stack.append(self.built(name, arguments))
        elif opcode == "BUILD":
            state = self.pop()
            self.top(Built).state = state
        elif opcode not in _IGNORED:
            raise UnsafePickle(f"the pickle uses {opcode}, which is not read; it was not executed")

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise UnsafePickle("the pickle is damaged; it was not executed")
        return value

    def group(self) -> list[Any]:
        """Everything above the last mark."""
        found: list[Any] = []
        while not isinstance(value := self.stack.pop(), _Mark):
            found.append(value)
        return found[::-1]

    def top(self, kind: type[Any]) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise UnsafePickle(f"the pickle changes a {type(self.stack[-1]).__name__}; it was not executed")
        return self.stack[-1]

    def name(self, spelled: str) -> None:
        module, _, name = spelled.partition(" ")
        full = f"{_OLD_MODULES.get(module, module)}.{name}"
        if full not in (_BYTES, _OBJECT, "builtins.object", "builtins.bytes") and not self.kept(full):
            raise UnsafePickle(f"the pickle names {full[:80]!r}; it was not executed")
        self.stack.append(_Name(full))

    def built(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise UnsafePickle("the pickle calls something that is no name; it was not executed")
        if name.name == _BYTES and len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1":
            return arguments[0].encode("latin1")
        if name.name == "builtins.bytes" and not arguments:  # empty bytes in protocol 2
            return b""
        if name.name == _OBJECT and len(arguments) == 3 and isinstance(arguments[0], _Name):
            name, arguments = arguments[0], ()
        if not self.kept(name.name):
            raise UnsafePickle(f"the pickle calls {name.name[:80]!r}; it was not executed")
        return Built(name.name, arguments)


def _filled(target: dict[Any, Any], group: list[Any]) -> dict[Any, Any]:
    if len(group) % 2:
        raise UnsafePickle("the pickle is damaged; it was not executed")
    for key, value in zip(group[::2], group[1::2], strict=True):
        # Plain keys only: the hash of a nested tuple can be made to take for ever.
        if not isinstance(key, _SCALARS):
            raise UnsafePickle(f"the pickle has a {type(key).__name__} as a key; it was not executed")
        target[key] = value
    return target
