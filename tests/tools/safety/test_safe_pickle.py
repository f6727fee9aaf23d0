"""Pickles are read without running them: plain values come out, everything else is refused by name."""

import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lensgraph.tools.safety import safe_pickle
from lensgraph.tools.safety.safe_pickle import Built, UnsafePickle, read

PLAIN: list[Any] = [
    "several\nlines ä‹", "", b"\x00\xffbytes", b"", 0, -1, 255, 65536, 2**70, -(2**70), 1.5, float("inf"), True, False, None,
    [], {}, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
    {"a": [1, {"b": ("c", None)}], 2: b"d"}, [[[]]], ["x"] * 2000, {str(n): n for n in range(2000)},
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_in_every_protocol(protocol: int) -> None:
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


def test_a_value_that_stands_twice_is_one_value() -> None:
    shared = ["one"]
    found = read(pickle.dumps([shared, shared]))
    assert found[0] is found[1]


class Runs:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that would touch `marker` if anything in them were executed."""
    import os
    import subprocess

    line = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    by_hand = {
        "old style GLOBAL": b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.",
        "INST": b"(S'touch " + str(marker).encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'touch " + str(marker).encode() + b"'\no.",
        "a dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c"
        + bytes([len(line)]) + line.encode() + b"\x85R.",
        "a persistent id": b"Psomething\n.",
        "an extension code": b"\x80\x02\x82\x01.",
    }  # fmt: skip
    calls = {
        "os.system": Runs(os.system, f"touch {marker}"),
        "mkdir": Runs(os.mkdir, str(marker)),
        "eval": Runs(eval, line),
        "exec": Runs(exec, line),
        "subprocess": Runs(subprocess.Popen, ["touch", str(marker)]),
        "getattr": Runs(getattr, "text", "upper"),
        "a path": Runs(type(marker), "x"),
        "nested in a title": {"id": {"titles": [Runs(eval, line)]}},
        "the reconstructor": Runs(__import__("copyreg")._reconstructor, bytearray, object, None),
        "the codec": Runs(__import__("codecs").encode, "x", "rot13"),
        "an inner pickle": Runs(pickle.loads, pickle.dumps(Runs(eval, line))),
    }
    return {**by_hand, **{name: pickle.dumps(call, 4) for name, call in calls.items()}}


def test_no_hostile_pickle_runs(tmp_path: Path) -> None:
    marker = tmp_path / "touched"
    for name, data in hostile(marker).items():
        for kept in (lambda _: False, lambda _: True):
            try:
                outcome = repr(read(data, kept=kept))
            except UnsafePickle as error:
                outcome = str(error)
            # with every name kept, what comes out are names
            assert any(said in outcome for said in ("not executed", "not read", "Built")), (name, outcome)
            assert not marker.exists(), name


def test_the_hostile_pickles_are_hostile(tmp_path: Path) -> None:
    """The check above would be empty if these did nothing when unpickled."""
    touched = []
    for number, name in enumerate(("mkdir", "eval", "exec", "nested in a title", "an inner pickle")):
        marker = tmp_path / str(number)
        pickle.loads(hostile(marker)[name])
        touched.append(marker.exists())
    assert all(touched)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, frozenset({1}), OrderedDict(a=1), 1j, range(3), Path("x"), bytearray(b"x"), Image.new("L", (1, 1))],
)
def test_anything_but_plain_values_is_refused(value: Any) -> None:
    with pytest.raises(UnsafePickle, match="not executed"):
        read(pickle.dumps(value, 5))


def nested_key(depth: int) -> bytes:
    """A dict whose key is a tuple of tuples, each twice the one before: hashing it would take 2 ** depth steps."""
    return b"}()" + b"q\x00h\x00\x86" * depth + b"K\x01u."


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no pickle", b"\x80", b".", b"N", b"(.", b"0.", b"K\x01K\x02.", b"]K\x01u.", b"h\x07.", b"}(K\x01u.", b"K\x01b.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",  # claims to hold exabytes
        b"I" + b"9" * 5000 + b"\n.",
        nested_key(60),
    ],
)  # fmt: skip
def test_damaged_pickles_are_told(data: bytes) -> None:
    with pytest.raises(UnsafePickle):
        read(data)


def test_a_large_memo_number_costs_no_memory() -> None:
    assert read(b"K\x05r\xff\xff\xff\x7f.") == 5  # the unpickler in C would make room for 2 ** 31 values


def test_kept_names_become_records_in_every_protocol() -> None:
    picture = Image.new("RGB", (2, 1), "red")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found = read(pickle.dumps({"x": picture}, protocol), kept=lambda name: name == "PIL.Image.Image")["x"]
        assert isinstance(found, Built)
        assert found.name == "PIL.Image.Image"
        assert found.state[1:3] == ["RGB", (2, 1)]
        assert found.state[4] == picture.tobytes()


def test_every_instruction_is_either_followed_or_refused() -> None:
    """No instruction of the language passes unread."""
    reader = safe_pickle._OpcodeReader(lambda _: True)
    for opcode in pickletools.opcodes:
        before = list(reader.stack)
        try:
            reader.step(opcode.name, None)
        except Exception:
            continue
        assert reader.stack != before or opcode.name in {
            "PROTO",
            "FRAME",
            "STOP",
            "MEMOIZE",
            "PUT",
            "BINPUT",
            "LONG_BINPUT",
        }
