"""Facts stand on their pages letter for letter."""

from __future__ import annotations

import re

import pytest

from lensgraph.tools.local.world import pages
from lensgraph.tools.local.world.facts import gather


@pytest.fixture(scope="module")
def by_id() -> dict[str, pages.WorldPage]:
    return {page.id: page for page in pages.pages()}


def test_every_gold_stands_in_its_line_and_the_line_on_its_page(by_id: dict[str, pages.WorldPage]) -> None:
    for fact in gather.facts():
        assert fact.gold in fact.line, fact
        assert fact.line in by_id[fact.page_id].text, fact
        assert by_id[fact.page_id].title == fact.page_title, fact


def test_there_are_enough_clean_facts_of_enough_relations() -> None:
    countries = [fact for fact in gather.facts() if fact.entity_id.startswith("flag:")]
    things = [fact for fact in gather.facts() if fact.entity_id.startswith("thing:")]
    assert len({fact.relation for fact in countries}) >= 35 and len(countries) > 7000
    assert len({fact.relation for fact in things}) >= 6 and 250 < len(things) < 500


def test_an_answer_is_short_and_no_remark_is_left_in_it() -> None:
    for fact in gather.facts():
        assert 0 < len(fact.gold) <= 65, fact
        assert not re.search(r"[;\[\]<>]|note|est\.", fact.gold), fact


@pytest.mark.parametrize(
    ("entity", "relation", "gold"),
    [
        ("flag:KE", "capital", "Nairobi"),
        ("flag:KE", "anthem", "Ee Mungu Nguvu Yetu"),
        ("flag:KE", "independence", "12 December 1963"),
        ("flag:KE", "holiday", "12 December"),
        ("flag:KE", "highest_point", "Mount Kenya"),
        ("flag:KE", "highest_metres", "5,199 m"),
        ("flag:KE", "currency", "Kenyan shillings"),
        ("flag:KE", "domain", ".ke"),
        ("flag:KE", "heritage", "8"),
        ("flag:US", "capital", "Washington, D.C."),
        ("flag:CH", "highest_point", "Dufourspitze"),
        ("flag:DE", "capital", "Berlin"),
        ("thing:1F992", "family", "Giraffidae"),
        ("thing:1F405", "genus", "Panthera"),
        ("thing:1F428", "native", "Australia"),
        ("thing:1F3BA", "kind", "brass instrument"),
    ],
)
def test_values_are_parsed_to_what_a_person_would_answer(entity: str, relation: str, gold: str) -> None:
    assert gather.of(entity)[relation].gold == gold


@pytest.mark.parametrize(
    ("entity", "relation"),
    [("flag:ZA", "capital"), ("flag:GB", "independence"), ("flag:GB", "holiday"), ("flag:NP", "coastline")],
)
def test_what_has_no_single_answer_is_not_asked(entity: str, relation: str) -> None:
    assert relation not in gather.of(entity)


def test_a_value_is_trimmed_at_the_last_clause_that_fits() -> None:
    assert pages.trim("one; two; three and a good deal more", 20) == "one; two"
    assert pages.trim("short", 20) == "short"
