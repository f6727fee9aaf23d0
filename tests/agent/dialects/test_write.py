"""A dialect reads its own writing."""

from __future__ import annotations

import pytest

from lensgraph.agent.actions import Action, Answer, Crop, GiveUp, SearchByImage, SearchByText
from lensgraph.agent.dialects.table import DIALECTS, build

SHARED: list[Action] = [Answer("Nairobi"), SearchByText("Kenya capital"), SearchByImage(), GiveUp()]
EVERYTHING = [
    *[(name, action) for name in DIALECTS for action in SHARED],
    *[(name, SearchByImage("the second flag")) for name in ("compact", "deepmmsearch_r1", "tools")],
    *[(name, Crop("the cat")) for name in ("compact", "tools")],
]


@pytest.mark.parametrize(("name", "action"), EVERYTHING)
@pytest.mark.parametrize("thought", ["", "I think so."])
def test_a_written_turn_is_read_as_its_action(name: str, action: Action, thought: str) -> None:
    dialect = build(name)
    text = dialect.write(thought, action)
    assert dialect.read(text) == action
    assert dialect.thought(text) == thought


@pytest.mark.parametrize(
    ("name", "action"),
    [("mmsearch_r1", SearchByImage("the flag")), ("mmsearch_r1", Crop("x")), ("deepmmsearch_r1", Crop("x"))],
)
def test_an_action_without_words_is_refused(name: str, action: Action) -> None:
    with pytest.raises(ValueError, match="no words"):
        build(name).write("", action)
