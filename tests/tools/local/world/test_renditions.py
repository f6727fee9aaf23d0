"""The world's entities and drawings keep the promises that tasks and training rely on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from lensgraph.tools.local.world import entities, renditions
from lensgraph.tools.local.world.making.curation import Decisions, decisions


def test_every_entity_is_drawn_in_both_indexed_sets_and_by_the_test_artist() -> None:
    for entity in entities.load_entities():
        for rendition in (*renditions.INDEXED[entity.kind], *renditions.TEST_QUERIES[entity.kind]):
            assert renditions.has(entity.id, rendition), f"{entity.id} lacks {rendition}"


def test_no_artist_is_both_indexed_and_asked_with() -> None:
    for kind in ("flag", "thing"):
        indexed, train, test = renditions.INDEXED[kind], renditions.TRAIN_QUERIES[kind], renditions.TEST_QUERIES[kind]
        assert not set(indexed) & {*train, *test}
        assert not set(train) & set(test)


def test_splits_have_the_promised_proportions_within_each_kind() -> None:
    for kind in ("flag", "thing"):
        counts = Counter(e.split for e in entities.select(kind=kind))
        total = sum(counts.values())
        assert counts["train"] / total == pytest.approx(0.6, abs=0.01)
        assert counts["validation"] / total == pytest.approx(0.1, abs=0.01)


def test_known_entities_are_all_in_train_and_about_as_many_as_asked_for() -> None:
    known = entities.select(known=True)
    assert {e.split for e in known} == {"train"}
    for kind, wanted in decisions().known_counts.items():
        assert wanted - 5 <= sum(e.kind == kind for e in known) <= wanted


def test_no_wikipedia_lead_belongs_to_two_entities_so_no_page_crosses_the_splits() -> None:
    titles = Counter(e.wiki_title for e in entities.load_entities() if e.wiki_title is not None)
    assert titles.most_common(1)[0][1] == 1


def test_ids_and_names_are_unique_and_names_are_not_their_own_aliases() -> None:
    everything = entities.load_entities()
    assert len({e.id for e in everything}) == len(everything)
    assert not [name for name, n in Counter((e.kind, e.name.casefold()) for e in everything).items() if n > 1]
    assert not [e.id for e in everything if e.name in e.aliases]


def test_shared_flags_are_left_out_and_their_owners_are_in() -> None:
    ids = {e.iso for e in entities.select(kind="flag")}
    assert not ids & set(decisions().shared_flags)
    assert set(decisions().shared_flags.values()) <= ids


def test_a_code_that_yaml_reads_as_something_else_is_refused() -> None:
    """An unquoted NO is a truth value, an unquoted 2615 a number."""
    rows = decisions().model_dump()
    for table, key in (("shared_flags", False), ("thing_names", 2615)):
        with pytest.raises(ValidationError, match=table):
            Decisions.model_validate({**rows, table: {key: "FR"}})
    with pytest.raises(ValidationError, match="shared_flag"):
        Decisions.model_validate({**rows, "shared_flag": {}})


@pytest.mark.parametrize("rendition", renditions.RENDITIONS)
def test_a_drawing_is_small_has_alpha_and_touches_all_four_sides(rendition: str) -> None:
    for entity_id in list(renditions.encoded(rendition))[::60]:
        picture = renditions.load_rendition(entity_id, rendition)
        assert picture.mode == "RGBA"
        assert max(picture.size) == 128
        left, top, right, bottom = picture.getchannel("A").point(lambda a: 255 if a > 2 else 0).getbbox() or (
            9,
            9,
            0,
            0,
        )
        assert left <= 2
        assert top <= 2
        assert right >= picture.width - 2
        assert bottom >= picture.height - 2


def test_a_written_rendition_reads_back_and_is_written_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = renditions.encoded("circle_flags")
    (tmp_path / "renditions").mkdir()
    written = renditions.archive(tmp_path, "circle_flags")
    renditions.write(written, drawings)
    assert written.read_bytes() == renditions.archive(entities.DATA, "circle_flags").read_bytes()
    monkeypatch.setattr(renditions, "DATA", tmp_path)
    assert list(renditions.encoded.__wrapped__("circle_flags").items()) == list(drawings.items())


def test_looking_at_a_picture_needs_nothing_but_the_standard_library_and_pillow() -> None:
    code = (
        "import sys; sys.modules.update(pyarrow=None, numpy=None);"
        "from lensgraph.tools.local.world import renditions; print(renditions.load_rendition('flag:KE', 'twemoji').size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.startswith("(128, ")


def test_a_missing_entity_or_rendition_is_named_in_the_error() -> None:
    with pytest.raises(KeyError, match="flag:XX"):
        entities.get("flag:XX")
    with pytest.raises(KeyError, match="openmoji"):
        renditions.load_rendition("flag:KE", "openmoji")
    with pytest.raises(KeyError, match="thing:1F405"):
        renditions.load_rendition("thing:1F405", "flagpack")


def test_every_shipped_set_is_credited_with_its_licence() -> None:
    text = (entities.DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for rendition in renditions.RENDITIONS:
        assert f"`{rendition}`" in text
    assert {"MIT", "CC-BY-4.0", "Apache-2.0"} <= set(text.replace("|", " ").split())
