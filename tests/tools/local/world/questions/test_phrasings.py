"""The file of wordings is read as its head says, and a mistake in it is told with the place."""

from __future__ import annotations

import re

import pytest

from lensgraph.tools.local.world.questions import phrasings

TEXT = """# A remark.

capital: capital city
What is the capital of {C}?
!Which city governs {C}?
~ Who rules {C} from where? => rules from where
!~ Where do ministers sit? => ministers sit

kind: -
What is {X}?
"""


def test_a_block_holds_formal_and_lay_wordings_with_ids_by_place() -> None:
    table = phrasings.parse(TEXT)
    assert list(table) == ["capital", "kind"]
    capital = table["capital"]
    assert capital.formal_query == "capital city" and table["kind"].formal_query == ""
    assert [(p.id, p.reserved) for p in capital.formal] == [("capital/0", False), ("capital/1", True)]
    assert [(p.id, p.reserved, p.text, p.lay_query) for p in capital.lay] == [
        ("capital/lay-0", False, "Who rules {C} from where?", "rules from where"),
        ("capital/lay-1", True, "Where do ministers sit?", "ministers sit"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEXT + "\nWhat is {C}?\n", "'relation: query'"),
        (TEXT + "~ Where? -> here\n", "kind: the lay wording"),
        (TEXT + "\nkind: -\nWhat is that?\n", "'kind' come twice"),
    ],
)
def test_a_mistake_in_the_file_names_its_block(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        phrasings.parse(text)


def test_every_shipped_wording_holds_only_known_placeholders() -> None:
    for row in phrasings.wordings().values():
        for wording in (*row.formal, *row.lay):
            assert set(re.findall(r"\{.*?\}", wording.text)) <= {"{C}", "{X}", "{T}"}, wording.id
    for name in phrasings.FRAME_NAMES:
        frames = phrasings.frames(name, reserved=True)
        assert frames and set(re.findall(r"\{.*?\}", " ".join(frames))) <= {"{T}", "{N}"}, name
