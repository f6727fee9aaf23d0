"""Lenient reading, limits, and the words that MMSearch-R1's environment writes."""

from typing import get_args

import pytest

from lensgraph.agent.actions import (
    Action,
    Answer,
    Crop,
    GiveUp,
    Malformed,
    OverLimit,
    SearchByImage,
    SearchByText,
    dump_action,
    load_action,
)
from lensgraph.agent.dialects import DialectName
from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.limits import Limits, Spent, StopReason
from lensgraph.tools.results import Hit, SearchResult, ToolError
from lensgraph.tools.safety.escape import line, neutral


@pytest.mark.parametrize(
    ("turn", "action"),
    [
        ("Paris", Answer("Paris")),
        ("<reason>hm</reason> It is Paris. ", Answer("It is Paris.")),
        ("<think>hm</think>Paris", Answer("Paris")),
        ("<answer>Paris", Answer("Paris")),
        ("<ANSWER>Paris</ANSWER> I hope", Answer("Paris")),
        ("<reason><answer>no</answer></reason><answer>Paris</answer>", Answer("Paris")),
        ("<reason>it is <answer>Paris</answer></reason>", Answer("Paris")),
        ("<text_search>capital of\n France</text_search>", SearchByText("capital of France")),
        ("<search>capital of France</search>", SearchByText("capital of France")),
        ("<text_search>q</text_search><information>x</information><answer>made up</answer>", SearchByText("q")),
        ("<search><img></search>", SearchByImage()),
        ("<img_search>img</img_search>.", SearchByImage()),
        ("<image_search></image_search>", SearchByImage()),
        ("<img_search>the red flag", SearchByImage("the red flag")),
        ("<crop>the red flag</crop>", Crop("the red flag")),
        ("Unable to answer due to lack of relevant information.", GiveUp()),
        ("<answer>Unable to answer due to lack of relevant information</answer>", GiveUp()),
        ("", Malformed("the turn holds neither an action nor an answer")),
        ("<reason>only this</reason>", Malformed("the turn holds neither an action nor an answer")),
        ("<text_search> </text_search>", Malformed("the text query is blank")),
    ],
)
def test_lenient_reading_takes_what_was_meant(turn: str, action: Action) -> None:
    assert build("compact", lenient=True).parse(turn, Spent()) == action


def test_lenient_mmsearch_r1_searches_the_whole_picture_whatever_the_region() -> None:
    dialect = build("mmsearch_r1", lenient=True)
    assert dialect.parse("<img_search>the red flag</img_search>", Spent()) == SearchByImage()


@pytest.mark.parametrize(
    ("turn", "thought"),
    [
        ("<reason> a </reason><answer>x</answer>", "a"),
        ("<reason>a</reason><reason>b</reason>", "a\nb"),
        ("I think.<answer>x</answer>", "I think."),
        ("<reason>unclosed<answer>x</answer>", "unclosed"),
        ("<answer>x</answer>", ""),
        ("no tags at all", ""),
    ],
)
def test_the_thought_is_what_stands_before_the_action(turn: str, thought: str) -> None:
    assert build("compact").thought(turn) == thought


def test_the_names_that_are_valid_are_those_of_the_table() -> None:
    assert get_args(DialectName) == tuple(DIALECTS)
    assert all(cls.name == name for name, cls in DIALECTS.items())


@pytest.mark.parametrize("name", list(DIALECTS))
@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "turn",
    ["", "\0", "<", "</answer>", "<answer>" * 500, "<reason>" * 500, "x" * 200_000, "</text_search><text_search>"],
)
def test_every_text_is_some_action(name: str, lenient: bool, turn: str) -> None:
    action = build(name, lenient=lenient).parse(turn, Spent())
    assert load_action(dump_action(action)) == action


def test_an_over_limit_action_survives_json() -> None:
    action = OverLimit(SearchByImage("the left one"), StopReason.SEARCH_LIMIT)
    assert load_action(dump_action(action)) == action


@pytest.mark.parametrize(
    ("counts", "stop"),
    [
        (Spent(), None),
        (Spent(image=1), StopReason.SEARCH_LIMIT),
        (Spent(text=3), StopReason.SEARCH_LIMIT),
        (Spent(turns=4, image=1), StopReason.TURN_LIMIT),
        (Spent(tokens=100), StopReason.TOKEN_LIMIT),
        (Spent(seconds=9), StopReason.TIME_LIMIT),
    ],
)
def test_limits_are_checked_in_their_order(counts: Spent, stop: StopReason | None) -> None:
    assert Limits(image=1, calls=3, turns=5, tokens=100, seconds=9).check("image", counts) is stop


def test_a_limit_of_the_user_replaces_the_dialects_own() -> None:
    dialect = build("mmsearch_r1", limits={"text": 5, "turns": None})
    assert (dialect.limits.text, dialect.limits.turns, dialect.limits.image) == (5, 3, 1)


# --- MMSearch-R1's environment, against the worked example of its reference


QUESTION = "In which year was this lighthouse automated?"


def test_mmsearch_r1_writes_image_results_as_in_training() -> None:
    hits = [Hit(title="Kestrel Point Light, a reef tower", url="u"), Hit(title="Visiting Kestrel Point", url="u")]
    dialect = build("mmsearch_r1")
    result = SearchResult(kind="image", query="image", hits=hits)
    content = dialect.observe_image(result, question=QUESTION, thumbnails=["t1", "t2"]).content
    assert [block["type"] for block in content] == ["text", "image", "text", "image", "text"]
    assert [block["id"] for block in content if block["type"] == "image"] == ["t1", "t2"]
    assert content[0]["text"].startswith("Searched results: <information>[Image Search Results] The result of the")
    assert content[0]["text"].endswith("as demonstrated below:\n1. image: ")
    assert content[2]["text"] == "\ntitle: Kestrel Point Light, a reef tower\n2. image: "
    assert content[4]["text"] == (
        "\ntitle: Visiting Kestrel Point\n</information>\n"
        f"Original user's question: {QUESTION}\n" + dialect.prompts["after_image_search"]
    )


def test_mmsearch_r1_writes_text_results_as_in_training() -> None:
    hit = Hit(title="Kestrel", url="https://example.org/kestrel", snippet="The light was automated in 1987.")
    dialect = build("mmsearch_r1")
    content = dialect.observe_text(SearchResult(kind="text", query="q", hits=[hit]), question=QUESTION).content
    assert content == (
        "Searched results: <information>[Text Search Results] Below are the text summaries of the most relevant "
        "webpages related to your query, ranked in descending order of relevance:\n"
        "1. (https://example.org/kestrel) The light was automated in 1987.\n"
        f"</information>\nOriginal user's question: {QUESTION}\n" + dialect.prompts["after_text_search"]
    )


@pytest.mark.parametrize(("kind", "name"), [("image", "Image"), ("text", "Text")])
def test_mmsearch_r1_tells_a_failure_in_the_bare_published_sentence(kind: str, name: str) -> None:
    error = ToolError(reason="timeout", message="secret detail")
    content = build("mmsearch_r1").observe_failure(kind, error, question=QUESTION).content  # type: ignore[arg-type]
    assert content == (
        f"[{name} Search Results] There is an error encountered in performing search. "
        "Please reason with your own capaibilities."
    )


def test_outside_text_is_one_line_of_bounded_length() -> None:
    assert line("Capital: Nairobi\nAnthem: Ee Mungu.\n\n Area:  1 km\u00b2 ", 100) == (
        "Capital: Nairobi; Anthem: Ee Mungu. Area: 1 km\u00b2"
    )
    assert line("abcdef", 4) == "abc\u2026"
    assert neutral("a < b and [1] and [PDF]\r\n\u200b") == "a \u2039 b and [1] and (PDF)\n"
