"""Half a character from a service costs nothing but itself: not the search, not its record, not the run."""

import json
from pathlib import Path

import pytest
from pydantic import Field

from lensgraph.agent.nodes.once import _CallRecord
from lensgraph.agent.policy.server.completion import read_answer
from lensgraph.tools.base import TextSearch
from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.results import Hit, LocateResult, Page, SearchResult, ToolError
from lensgraph.tools.safety.surrogates import whole

HALF = "\ud83d"


@pytest.mark.parametrize(
    ("text", "left"),
    [("a" + HALF, "a\ufffd"), ("\ud83d\ude00!", "\U0001f600!"), ("plain é \U0001f600", "plain é \U0001f600")],
)
def test_half_a_character_is_replaced_and_two_halves_become_one(text: str, left: str) -> None:
    assert whole(text) == left


def test_no_result_holds_half_a_character() -> None:
    error = ToolError(reason="empty", message=HALF)
    hit = Hit(title=HALF, url=f"https://h/{HALF}", snippet=HALF)
    for result in (
        SearchResult(kind="text", query=HALF, hits=[hit], error=error),
        Page(url=HALF, title=HALF, text=HALF),
        LocateResult(expression=HALF, error=error),
    ):
        assert HALF not in result.model_dump_json()


class Cutting(TextSearch):
    """A service that counts as JavaScript does."""

    asked: list[str] = Field(default_factory=list, exclude=True)

    async def asearch(self, query: str) -> SearchResult:
        self.asked.append(query)
        snippet = json.loads('"a country \\ud83d"')
        return SearchResult(kind="text", query=query, hits=[Hit(title="Kenya", url="https://k", snippet=snippet)])


async def test_a_search_that_brings_half_a_character_is_kept(tmp_path: Path) -> None:
    tool = Cutting().use_cache(Cache(CacheSettings(folder=str(tmp_path))))
    for query in ("kenya", "kenya", f"kenya {HALF}", f"kenya {HALF}"):
        result = await tool.search(query)
        assert result.error is None, result.error
        assert result.hits[0].snippet == "a country \ufffd"
    assert tool.asked == ["kenya", "kenya \ufffd"]


async def test_its_record_can_be_written(tmp_path: Path) -> None:
    record = _CallRecord(tmp_path, "name", SearchResult(kind="text", query="q"))
    record.read_or_announce(repeatable=False)
    record.write(await Cutting().search(f"kenya {HALF}"))
    known = record.read_or_announce(repeatable=False)
    assert known is not None
    assert known.error is None


def test_a_policys_turn_is_whole() -> None:
    body = b'{"choices": [{"message": {"content": "<answer>x\\ud83d</answer>"}, "finish_reason": "stop"}]}'
    assert read_answer(body, "here").text == "<answer>x\ufffd</answer>"
