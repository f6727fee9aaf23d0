"""Nothing that servers answer or callers ask leaves the graph as an exception: it ends typed, or is refused in one line.

A few cases of each fuzzer; `python tests/checks replies-fuzz` and `questions-fuzz` run 20,000. Each is shown to find
what it looks for.
"""

import json
from typing import Any

import fuzz_values
import pytest
import questions_fuzz
import replies_fuzz
from check_commands import main

from lensgraph.agent import errors, question
from lensgraph.agent.policy.server import completion
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import ToolError
from lensgraph.tools.safety.outside_json import DEEPEST, read_json


def test_whatever_a_server_answers_the_question_ends_typed() -> None:
    found = replies_fuzz.run(80, 7, sockets=0.1)
    assert found.raw == []
    assert found.kinds.total() == 80
    assert {"answered", "policy_failed"} <= found.endings.keys()
    assert sum("(socket)" in kind for kind in found.kinds) >= 3


def test_whatever_is_asked_ends_typed_or_is_refused_in_one_line() -> None:
    found = questions_fuzz.run(150, 7)
    assert found.raw == []
    assert {"answered", "refused", "exit 2"} <= found.endings.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("fuzz", "count"), [(replies_fuzz, 1_000), (questions_fuzz, 2_000)])
def test_more_of_them(fuzz: Any, count: int) -> None:
    assert fuzz.run(count, 8).raw == []


def test_every_kind_of_server_answers_some_case() -> None:
    """For every provider that the contract knows, and each way to reach a policy."""
    chosen = [replies_fuzz.kind_of(number, 0) for number in range(1_000)]
    assert min(chosen.count(kind) for kind in replies_fuzz.cases()) >= 20


MULTILINE = ToolError(reason="malformed", message="a\nb")


@pytest.mark.parametrize(
    ("command", "target", "name", "broken"),
    [
        ("replies-fuzz", completion, "_usage", lambda counted: {"input_tokens": counted["prompt_tokens"]}),
        ("questions-fuzz", question, "storable", lambda message: message),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in (
            ("replies-fuzz", completion, "read_json", json.loads),
            ("replies-fuzz", LensTool, "_to_error", lambda self, error: MULTILINE),
            ("questions-fuzz", question, "whole", lambda text: text),
            ("questions-fuzz", errors, "whole", lambda text: text),
        )),
    ],
)  # fmt: skip
def test_a_fuzzer_finds_what_is_broken_and_repeats_it_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    target: Any,
    name: str,
    broken: Any,
) -> None:
    fuzz = {"replies-fuzz": replies_fuzz, "questions-fuzz": questions_fuzz}[command]
    monkeypatch.setattr(target, name, broken)
    for seed in range(20):
        if found := fuzz.run(60, seed).raw:
            break
    assert found
    number = found[0].removeprefix("case ").partition(":")[0].partition(" ")[0]
    again = [command, "--seed", str(seed), "--only", number]
    assert main(again) == 1
    said = capsys.readouterr().out
    assert "1 raw exceptions" in said and f"case {number}" in said
    monkeypatch.undo()
    assert main(again) == 0


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, '{"a": 1', "\udc00", "9" * 5000 + "x"]
)
def test_json_from_outside_is_read_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_json_from_outside_holds_nothing_that_cannot_be_counted_with() -> None:
    read = read_json('{"a": [NaN, Infinity, -1e999, 1e400, 0.5, 7, -7], "b": ' + "9" * 400 + "}")
    assert read == {"a": [None, None, None, None, 0.5, 7, -7], "b": None}
    deepest = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(read_json(deepest)) == deepest


def test_a_fuzzer_varies_without_end_and_changes_nothing_of_its_own() -> None:
    """Its values are shared between cases: one that was changed would come to hold itself."""
    import random

    before = repr(fuzz_values.VALUES)
    chance = random.Random(0)
    for _ in range(2_000):
        fuzz_values.written(fuzz_values.varied({"a": [1, {"b": None}]}, chance, changes=5), chance)
    assert repr(fuzz_values.VALUES) == before
