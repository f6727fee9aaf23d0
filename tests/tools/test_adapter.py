"""Whatever shape a foreign LangChain search tool answers in, it is read into hits or into an error."""

from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from PIL import Image

from lensgraph.tools.adapter import adapt, read_hits
from lensgraph.tools.base import ImageSearch, TextSearch
from lensgraph.tools.results import Hit, SearchResult, ToolFailure

ROW = {"title": "Kenya", "url": "https://k", "content": "a country", "score": 0.9}
HIT = Hit(title="Kenya", url="https://k", snippet="a country", score=0.9)


def answering(answer: Any, **options: Any) -> BaseTool:
    def search(query: str) -> Any:
        """Search."""
        if isinstance(answer, Exception):
            raise answer
        return answer

    return StructuredTool.from_function(search, **options)


async def searched(tool: BaseTool) -> SearchResult:
    adapted = adapt("text_search", tool)
    assert isinstance(adapted, TextSearch)
    return await adapted.search("kenya")


@pytest.mark.parametrize(
    "answer",
    [
        [ROW],
        {"results": [ROW]},
        {"organic_results": [ROW]},
        '[{"title": "Kenya", "link": "https://k", "snippet": "a country", "score": 0.9}]',
        [{"name": "Kenya", "href": "https://k", "body": "a country", "score": 0.9}],
    ],
)
def test_the_common_shapes_are_read(answer: Any) -> None:
    assert read_hits(answer, "tool") == [HIT]


async def test_plain_text_is_one_hit() -> None:
    assert (await searched(answering("Page: Kenya\nSummary: a country"))).hits[0].snippet.startswith("Page: Kenya")


async def test_an_artifact_of_ours_passes_through() -> None:
    ours = SearchResult(kind="text", query="q", hits=[HIT])
    result = await searched(answering(("text", ours), response_format="content_and_artifact"))
    assert result.hits == [HIT]


@pytest.mark.parametrize(
    "answer",
    [{"error": ValueError("no key")}, {"error": "quota"}, ToolException("no results"), RuntimeError("down"), 42],
)
async def test_failures_of_every_shape_are_errors(answer: Any) -> None:
    result = await searched(answering(answer, handle_tool_error=isinstance(answer, ToolException)))
    assert result.error is not None
    assert result.error.reason in ("unavailable", "malformed")
    assert "\n" not in result.error.message


@pytest.mark.parametrize("answer", ["", [], {"results": []}])
async def test_an_empty_answer_is_empty(answer: Any) -> None:
    result = await searched(answering(answer))
    assert result.error is not None
    assert result.error.reason == "empty"


async def test_an_image_tool_is_given_a_data_uri_and_k_limits_the_hits() -> None:
    seen: list[str] = []

    def lens(image_url: str) -> list[dict[str, Any]]:
        """Look."""
        seen.append(image_url)
        return [ROW] * 9

    adapted = adapt("image_search", StructuredTool.from_function(lens))
    assert isinstance(adapted, ImageSearch)
    result = await adapted.search(Image.new("RGB", (4, 3)))
    assert seen[0].startswith("data:image/png;base64,")
    assert len(result.hits) == adapted.k == 5


def test_an_unreadable_answer_is_malformed() -> None:
    with pytest.raises(ToolFailure) as caught:
        read_hits(object(), "tool")
    assert caught.value.reason == "malformed"
