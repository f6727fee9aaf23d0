"""Training asks in more words than the tasks do, and never in a reserved one."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from difflib import SequenceMatcher

import pytest

from lensgraph.rl.pocket.invent import Demonstration, Message
from lensgraph.rl.pocket.rephrase import Rephrasing, paraphrases, rephrased
from lensgraph.tools.local.world.questions import phrasings, splits, world_task


def _plain(text: str) -> str:
    return re.sub(r"[^a-z{}]+", " ", text.lower().replace("what's", "what is")).strip()


def test_no_paraphrase_is_a_reserved_wording() -> None:
    reserved = {_plain(p.text) for w in phrasings.wordings().values() for p in (*w.formal, *w.lay) if p.reserved}
    for name in phrasings.FRAME_NAMES:
        held = set(phrasings.frames(name, reserved=True)) - set(phrasings.frames(name, reserved=False))
        assert held, name
        reserved |= {_plain(frame) for frame in held}
    written = {_plain(p.text) for w in paraphrases().values() for p in (*w.formal, *w.lay)}
    assert len(written) > 1000
    assert not written & reserved


def test_no_paraphrase_is_a_near_twin_of_a_reserved_wording_of_its_relation() -> None:
    """One word more or less would make an unseen wording a seen one."""
    for relation, wordings in phrasings.wordings().items():
        reserved = [p.text.lower() for p in (*wordings.formal, *wordings.lay) if p.reserved]
        more = paraphrases()[relation]
        for text in (p.text.lower() for p in (*more.formal, *more.lay)):
            for other in reserved:
                assert SequenceMatcher(None, text, other).ratio() <= 0.92, (relation, text, other)


def test_every_relation_and_frame_has_paraphrases_with_its_placeholder() -> None:
    assert set(paraphrases()) == set(phrasings.wordings()) | set(phrasings.FRAME_NAMES)
    for relation, wordings in phrasings.wordings().items():
        more = paraphrases()[relation]
        assert more.formal_query == wordings.formal_query
        assert bool(more.lay) == bool(wordings.lay), relation
        assert all(lay.lay_query for lay in more.lay)
        place = re.search(r"\{[CXT]\}", wordings.formal[0].text)
        for phrasing in (*more.formal, *more.lay):
            assert phrasing.text.count(place[0] if place else "{") == (1 if place else 0), phrasing


@pytest.mark.parametrize("family", world_task.FAMILIES)
def test_a_rephrased_task_asks_the_same(family: world_task.Family) -> None:
    rng, changed = random.Random(0), 0
    for task in splits.load_split("train", family, limit=60):
        other = rephrased(task, rng)
        changed += other.question != task.question
        assert "{" not in other.question
        assert task.target is None or task.target.lower() in other.question.lower()
        assert bool(other.query_lay) == bool(task.query_lay)
        assert replace(other, question=task.question, query_lay=task.query_lay) == task
    assert changed > 40


def test_a_demonstration_asks_its_lay_query_in_the_question_s_new_words() -> None:
    task = splits.load_split("train", "correction", limit=1)[0]
    turns = (
        Message("user", task.question, (0,)),
        Message("assistant", f"<reason>1. x</reason><text_search> {task.query_lay}</text_search>"),
        Message("user", "<information>nothing</information>"),
        Message("assistant", f"<reason>other words</reason><text_search> {task.query_formal}</text_search>"),
    )
    demo = Demonstration(task.id, "search_agent", "correction", {}, turns, answer="x")
    rephrasing, seen = Rephrasing([demo]), set()
    for seed in range(30):
        other = rephrasing(demo, random.Random(seed))
        expected = rephrased(task, random.Random(seed))
        assert other.messages[0].text == expected.question
        assert f" {expected.query_lay}<" in other.messages[1].text
        assert other.messages[2:] == demo.messages[2:]
        seen.add(other.messages[1].text)
    assert len(seen) > 3


def test_what_is_not_a_training_task_stays_as_it_is() -> None:
    demo = Demonstration("other", "direct", "known", {}, (Message("user", "What is this?"),), answer="x")
    assert Rephrasing([demo])(demo, random.Random(0)) is demo
