"""Rewritten demonstrations tell the same story about an entity that does not exist."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lensgraph.rl.pocket.invent import Demonstration, Lexicon, Message, invented, rewrite

DEMO = Demonstration(
    task="world/train/image_text/00001",
    workflow="search_agent",
    family="image_text",
    scene={},
    messages=(
        Message("user", "When did the country with this flag become independent?", (0,)),
        Message("assistant", "<img_search><img></img_search>"),
        Message("user", "<information>1. Kenya (0.93)\n2. Malawi (0.71)\n3. Gambia (0.40)</information>"),
        Message("assistant", "<reason>1. Kenya</reason><text_search>Kenya independence date</text_search>"),
        Message(
            "user", "<information>1. Kenya: Government\nIndependence date: 12 December 1963; Seats: 350</information>"
        ),
        Message("assistant", "<reason>Independence date: 12 December 1963</reason><answer>12 December 1963</answer>"),
    ),
    name="Kenya",
    answer="12 December 1963",
)


def _lexicon(names: list[str], forbidden: list[str]) -> Lexicon:
    return Lexicon(tuple(names), ("umbrella", "Quarry", "strontium", "of"), tuple(forbidden))


@pytest.mark.parametrize("seed", range(40))
def test_the_answer_still_stands_in_the_page_and_nothing_old_is_left(seed: int) -> None:
    told = rewrite(DEMO, random.Random(seed), _lexicon(["Peru", "Chad"], ["Malawi", "Gambia"]), share=1.0)
    page, last = told.messages[4].text, told.messages[5].text
    assert told.answer in page
    assert f"<answer>{told.answer}</answer>" in last
    assert told.answer != DEMO.answer
    everything = "".join(message.text for message in told.messages)
    assert not any(old in everything for old in ("Kenya", "1963", "350", "Malawi", "Gambia"))
    assert told.name is not None
    assert f"1. {told.name} (0." in told.messages[2].text
    assert f"<text_search>{told.name} independence date</text_search>" in told.messages[3].text
    assert "Independence date: " in page


def test_the_question_and_the_pictures_stay() -> None:
    told = rewrite(DEMO, random.Random(0), _lexicon([], []), share=1.0)
    assert told.messages[0] == DEMO.messages[0]
    assert [message.pictures for message in told.messages] == [message.pictures for message in DEMO.messages]


def test_a_row_that_is_not_rewritten_keeps_its_facts_but_no_forbidden_name() -> None:
    told = rewrite(DEMO, random.Random(0), _lexicon(["Peru"], ["Malawi"]), share=0.0)
    assert told.messages[4:] == DEMO.messages[4:]
    assert "Malawi" not in told.messages[2].text


def test_a_forbidden_name_in_the_answer_is_replaced_everywhere_alike() -> None:
    page = Message("user", "<information>1. Kenya: Economy\nExport partners: Malawi 19%</information>")
    last = Message("assistant", "<reason>Export partners: Malawi</reason><answer> Malawi</answer>")
    demo = replace(DEMO, messages=(*DEMO.messages[:4], page, last), answer="Malawi")
    told = rewrite(demo, random.Random(0), _lexicon([], ["Malawi"]), share=0.0)
    assert "Malawi" not in "".join(message.text for message in told.messages)
    answer = told.messages[5].text.split("<answer> ")[1].removesuffix("</answer>")
    assert f"Export partners: {answer}" in told.messages[4].text
    assert f"Export partners: {answer}" in told.messages[5].text


def test_runs_without_a_search_come_back_as_they_are() -> None:
    closed = Demonstration("t", "search_agent", "known", {}, DEMO.messages[:1], answer="Nairobi")
    assert rewrite(closed, random.Random(0), _lexicon([], []), share=1.0) is closed


def test_inventions_use_whole_words_parts_of_words_and_syllables() -> None:
    rng = random.Random(0)
    made = [invented(rng, ("umbrella", "strontium")) for _ in range(200)]
    assert {"Umbrella", "Strontium"} < set(made)
    assert any(word.startswith("Umb") and word.endswith("tium") for word in made)
    assert any(not word.lower().startswith(("um", "st")) for word in made)
    assert all(word[0].isupper() and len(word) > 2 for word in made)
    assert invented(rng, ("umbrella",), capital=False)[0].islower()


def test_an_invention_that_is_a_forbidden_name_is_not_used() -> None:
    lexicon = Lexicon((), ("Malawi", "Gambia"), ("Malawi", "Gambia"))
    for seed in range(30):
        told = rewrite(DEMO, random.Random(seed), lexicon, share=1.0)
        assert told.name is not None
        assert told.name not in ("Malawi", "Gambia")
