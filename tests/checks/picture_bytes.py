"""Find bytes of pictures in anything: raw, as base64 in any alphabet and at any offset, in hex, and as `repr` writes them.

A picture is found where 64 of its bytes stand together, or 48 characters of its base64. Every half of that, cut from the
picture one behind the other, is looked up at every place, because each such run holds one whole half.
"""

import base64
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from PIL import Image
from pydantic import BaseModel


class Form(NamedTuple):
    """A way in which bytes are written."""

    length: int
    """Bytes of a look-up."""
    written: Callable[[bytes], list[bytes]]
    """The bytes of a picture in this form."""
    runs: Callable[[bytes], list[bytes]]
    """Parts of a text that may be in this form."""


FORMS = {
    "raw": Form(32, lambda data: [data], lambda data: [] if data.isascii() else [data]),
    "base64": Form(
        24,
        lambda data: [code(data[n:]) for n in range(3) for code in (base64.b64encode, base64.urlsafe_b64encode)],
        re.compile(rb"[\w+/-]{48,}").findall,
    ),
    "hex": Form(
        64, lambda data: [data.hex().encode(), data.hex().upper().encode()], re.compile(rb"[\da-fA-F]{128,}").findall
    ),
    "repr": Form(48, lambda data: [repr(data).encode()], lambda data: [data] if rb"\x" in data else []),
}
PLAIN = 10
"""A look-up with fewer different bytes, such as the pixels of a plain area, stands for no picture."""
CODE = (types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)
"""It holds no picture of a run."""


class PictureBytes:
    """The bytes of some pictures, to be looked for."""

    def __init__(self, pictures: Iterable[bytes]) -> None:
        self.parts = {form: set[bytes]() for form in FORMS}
        for picture in pictures:
            for name, form in FORMS.items():
                cut = [
                    text[n : n + form.length]
                    for text in form.written(picture)
                    for n in range(0, len(text), form.length)
                ]
                self.parts[name] |= {part for part in cut if len(part) == form.length and len(set(part)) >= PLAIN}

    def form_in(self, data: bytes) -> str | None:
        """The form in which a picture stands in `data`; None: none does."""
        for name, form in FORMS.items():
            for run in form.runs(data):
                if any(run[n : n + form.length] in self.parts[name] for n in range(len(run) - form.length + 1)):
                    return name
        return None

    def leaks(self, things: Any) -> dict[str, str]:
        """The places in nested objects where a picture stands -> its form."""
        seen: dict[bytes, str | None] = {}
        found = {}
        for place, data in texts_of(things):
            if data not in seen:
                seen[data] = self.form_in(data)
                if form := seen[data]:
                    found[place] = form
        return found


def texts_of(things: Any) -> Iterator[tuple[str, bytes]]:
    """Every text and every string of bytes in nested objects, with its place; a picture stands for its pixels."""
    known: dict[int, Any] = {}  # objects are kept alive, so that no other gets the id of one
    waiting: list[tuple[str, Any]] = [("", things)]
    while waiting:
        place, thing = waiting.pop()
        if thing is None or id(thing) in known or isinstance(thing, (int, float, *CODE)):
            continue
        if isinstance(thing, str):
            yield place, thing.encode("utf-8", "surrogatepass")
        elif isinstance(thing, bytes | bytearray | memoryview):
            yield place, bytes(thing)
        else:
            known[id(thing)] = thing
            if isinstance(thing, Image.Image):
                yield place, thing.tobytes()
            elif isinstance(thing, dict):
                waiting += [
                    (f"{place}.{str(key)[:40]}", part) for key, value in list(thing.items()) for part in (key, value)
                ]
            elif isinstance(thing, list | tuple | set | frozenset):
                waiting += [(f"{place}[{number}]", value) for number, value in enumerate(list(thing))]
            else:
                waiting += [(f"{place}.{name}", value) for name, value in _fields(thing)]


def _fields(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(thing, "__dict__", {}).items())
    if isinstance(thing, BaseModel):
        yield from {**(thing.__pydantic_private__ or {}), **(thing.__pydantic_extra__ or {})}.items()
    for owner in type(thing).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            yield name, getattr(thing, name, None)
