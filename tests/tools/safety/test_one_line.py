"""An exception becomes one line without keys."""

import pytest

from lensgraph.tools.safety.one_line import named_line, one_line

KEY = "sk-0123456789abcdef"


def test_white_space_of_all_kinds_is_folded_and_the_line_is_cut() -> None:
    assert one_line(ValueError("no such\n\n  file\there"), 12) == "no such file"


@pytest.mark.parametrize(
    "text", [f"bad key {KEY}", f"GET http://h/?api_key={KEY}", f"http://me:{KEY}@h/ refused", f"key={KEY}"]
)
def test_no_key_and_no_login_stands_in_the_line(text: str) -> None:
    for said in (one_line(OSError(text)), named_line(OSError(text)), one_line(OSError(text), first=True)):
        assert KEY not in said
        assert "***" in said


def test_a_key_at_the_cut_is_hidden_before_the_cut() -> None:
    assert KEY[:8] not in one_line(OSError("x" * 190 + " " + KEY))


def test_only_the_first_line_where_the_others_are_not_wanted() -> None:
    error = RuntimeError("\n1 validation error\nfield\n  input_value='what a person typed'")
    assert one_line(error, first=True) == "1 validation error"
    assert named_line(error, first=True) == "RuntimeError: 1 validation error"


@pytest.mark.parametrize("error", [TimeoutError(), ValueError(" \n ")])
def test_an_error_without_a_text_is_told_by_its_class(error: Exception) -> None:
    assert one_line(error) == named_line(error) == named_line(error, first=True) == type(error).__name__
