"""Every limit has its setting, refuses a tool call, and ends in words; a new one that misses a place fails here."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lensgraph.agent.config.schema import LIMITS
from lensgraph.agent.limits import Limits, Spent, StopReason
from lensgraph.agent.nodes.answer import UNANSWERED

SPENT = Spent(**{field.name: 50 for field in fields(Spent)})
"""Far into an episode."""


def test_every_limit_has_a_setting() -> None:
    assert sorted(LIMITS.values()) == sorted(field.name for field in fields(Limits))


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_refuses_a_tool_call_by_itself(name: str) -> None:
    roomy = Limits(turns=100)
    limited = roomy.with_(**{name: 40})
    for kind in ("image", "text", "crop"):
        assert roomy.check(kind, SPENT) is None
        assert limited.check(kind, Spent()) is None
    assert any(limited.check(kind, SPENT) for kind in ("image", "text", "crop"))


def test_every_reason_for_no_answer_is_said_in_words() -> None:
    assert set(UNANSWERED) == set(StopReason) - {StopReason.ANSWERED}
