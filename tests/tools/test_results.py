"""Typed results: boxes are exact, and every result survives a trip through JSON."""

import pytest

from lensgraph.tools.results import Box, Hit, LocateResult, Region, SearchResult, ToolError


def box(left: int, top: int, right: int, bottom: int) -> Box:
    return Box(left=left, top=top, right=right, bottom=bottom)


def test_a_box_knows_its_size_and_centre() -> None:
    assert (box(2, 3, 12, 8).width, box(2, 3, 12, 8).height, box(2, 3, 12, 8).area) == (10, 5, 50)
    assert box(0, 0, 3, 4).centre == (1.5, 2.0)


def test_overlap_of_boxes_is_exact_and_none_when_they_only_touch() -> None:
    assert box(0, 0, 10, 10).intersect(box(5, 5, 20, 20)) == box(5, 5, 10, 10)
    assert box(0, 0, 10, 10).intersect(box(10, 0, 20, 10)) is None
    assert box(0, 0, 10, 10).iou(box(0, 0, 10, 10)) == 1.0
    assert box(0, 0, 10, 10).iou(box(5, 0, 15, 10)) == pytest.approx(1 / 3)


def test_expanding_a_box_stays_inside_the_picture() -> None:
    assert box(5, 5, 15, 15).expand(0.5, within=(18, 100)) == box(0, 0, 18, 20)


def test_a_box_without_area_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"\(5, 5, 5, 9\) has no area"):
        box(5, 5, 5, 9)


def test_results_survive_json_with_bytes_that_are_not_text() -> None:
    hit = Hit(title="Kenya", url="u", thumbnail=b"\xff\x00\xfe")
    result = SearchResult(kind="image", query="q", hits=[hit], error=ToolError(reason="empty", message="m"))
    assert SearchResult.model_validate_json(result.model_dump_json()) == result
    found = LocateResult(expression="e", regions=[Region(box=box(0, 0, 1, 1), score=0.5, label="flag")])
    assert LocateResult.model_validate_json(found.model_dump_json()) == found


def test_thumbnails_do_not_flood_a_printed_hit() -> None:
    assert "thumbnail" not in repr(Hit(title="t", url="u", thumbnail=b"x" * 10_000))
