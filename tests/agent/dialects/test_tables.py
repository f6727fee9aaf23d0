"""The strict dialects agree with every row of the papers' decision tables, run through the real graph.

Each row: the turns, what executes for each (`end`: nothing, the episode is over), the format score, and whether the
extracted answer is right. A red row is a change of the published protocol, not a test to edit.
"""

import string
from typing import Any

import pytest
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.dialects.table import build
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent

R = "<reason>r</reason>"
GIVE_UP = "Unable to answer due to lack of relevant information"


async def play(turns: list[str], dialect: str) -> tuple[list[str], dict[str, Any]]:
    """Run the turns as a script. Returns what executed, one word a turn, and the final state."""
    given = {"question": "What is this?", "images": [Image.new("RGB", (64, 48))]}
    context = testing.context(turns, dialect)
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    executed = []
    for step in state["steps"]:
        if "hits" in step:
            whole = step["node"] == "image_search" and step.get("crop") is None
            executed.append("text" if step["node"] == "text_search" else "image" if whole else "crop")
    return executed, state


def normal(answer: str) -> str:
    """The papers' normalisation: case, punctuation, articles, spaces."""
    bare = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(word for word in bare.split() if word not in {"a", "an", "the"})


# --- MMSearch-R1

I = "<search><img></search>"  # noqa: E741
T = "<text_search>q</text_search>"
A = "<answer>Titanic</answer>"
W = "<answer>Olympic</answer>"

MMSEARCH_R1: list[tuple[int, list[str], list[str], int, bool]] = [
    (1, [R + A], ["end"], 1, True),
    (2, [R + W], ["end"], 1, False),
    (3, [A], ["end"], 0, True),
    (4, [R + " so " + A], ["end"], 1, True),
    (5, [R + A + "."], ["end"], 0, True),
    (6, [R + A + "\n"], ["end"], 1, True),
    (7, ["x " + R + A], ["end"], 0, True),
    (8, [R + R + A], ["end"], 0, True),
    (9, [R + W + A], ["end"], 0, True),
    (10, ["<reason>" + A + "</reason>"], ["end"], 0, True),
    (11, [R + "<answer>The TITANIC!</answer>"], ["end"], 1, True),
    (12, [R + "<answer>Titanic"], ["end"], 0, False),
    (13, [R + "<answer></answer>"], ["end"], 1, False),
    (14, [""], ["end"], 0, False),
    (15, ["<Reason>r</Reason>" + A], ["end"], 0, True),
    (16, ["<reason>r1\nr2</reason>\n\n" + A], ["end"], 1, True),
    (17, [R + I, R + A], ["image", "end"], 1, True),
    (18, [R + I, R + W], ["image", "end"], 1, False),
    (19, [I, R + A], ["image", "end"], 0, True),
    (20, [R + T, R + A], ["text", "end"], 1, True),
    (21, [R + I, R + T, R + A], ["image", "text", "end"], 1, True),
    (22, [R + I, R + T, R + W], ["image", "text", "end"], 1, False),
    (23, [R + I, R + T, A], ["image", "text", "end"], 0, True),
    (24, [R + T, R + T, R + A], ["text", "text", "end"], 0, True),
    (25, [R + T, R + I, R + A], ["text", "image", "end"], 0, True),
    (26, [R + I, R + I], ["image", "end"], 0, False),
    (27, [R + I, R + T, R + T], ["image", "text", "end"], 0, False),
    (28, [R + A + T, R + A], ["text", "end"], 0, True),
    (29, [R + A + I, R + A], ["image", "end"], 0, True),
    (30, [R + I, R + GIVE_UP], ["image", "end"], 0, False),
    (31, [R + I, R + f"<answer>{GIVE_UP}</answer>"], ["image", "end"], 1, False),
    (32, [R + I + "."], ["end"], 0, False),
    (33, [R + I + " "], ["end"], 0, False),
    (34, [R + I + "\n", R + A], ["image", "end"], 1, True),
    (35, [R + T + "\n\n"], ["end"], 0, False),
    (36, [R + "<text_search>a\nb</text_search>"], ["end"], 0, False),
    (37, [R + "<text_search></text_search>"], ["end"], 0, False),
    (38, [R + "<text_search> </text_search>", R + A], ["text", "end"], 1, True),
    (39, [R + "<text_search>a</text_search><text_search>b</text_search>", R + A], ["text", "end"], 0, True),
    (40, [R + T + I, R + A], ["image", "end"], 0, True),
    (41, [R + I + T, R + A], ["text", "end"], 0, True),
    (42, [R + I + A], ["end"], 0, True),
    (43, ["<reason>r" + I + "</reason>" + A], ["end"], 0, True),
    (44, ["<reason>r <text_search></reason>" + A], ["end"], 0, True),
]


@pytest.mark.parametrize(("row", "turns", "actions", "form", "right"), MMSEARCH_R1)
async def test_mmsearch_r1_agrees_with_the_table(
    row: int, turns: list[str], actions: list[str], form: int, right: bool
) -> None:
    executed, state = await play(turns, "mmsearch_r1")
    assert [*executed, "end"] == actions
    assert build("mmsearch_r1").well_formed(turns) is bool(form)
    assert (normal(state["answer"] or "") == "titanic") is right


def test_mmsearch_r1_gives_four_turns_no_format_score_instead_of_raising() -> None:
    """Row 45: upstream raises a ValueError there."""
    assert build("mmsearch_r1").well_formed([R + T, R + T, R + T, R + A]) is False


@pytest.mark.parametrize(
    ("row", "turns", "executed"),
    [
        (1, [I, I], ["image"]),  # an image search at its limit ends
        (1, [T, T, I], ["text", "text"]),  # and in the last round
        (2, [I, A], ["image"]),
        (3, [T, T, T], ["text", "text"]),  # a text search at its limit
        (4, ["<text_search></text_search>"], []),  # an empty query
        (5, [T, A], ["text"]),
        (6, ["anything else"], []),
    ],
)
async def test_mmsearch_r1_follows_the_state_machine(row: int, turns: list[str], executed: list[str]) -> None:
    found, _ = await play(turns, "mmsearch_r1")
    assert found == executed


@pytest.mark.parametrize(
    ("turn", "query"),
    [("<text_search> </text_search>", " "), ("<text_search>a</text_search><text_search>b</text_search>", "b")],
)
async def test_mmsearch_r1_searches_with_the_last_match_unstripped(turn: str, query: str) -> None:
    """Rows 38 and 39. The blank query reaches the tool, which refuses it: an observation, not a crash."""
    _, state = await play([R + turn, A], "mmsearch_r1")
    assert next(t["query"] for t in state["steps"] if t["node"] == "text_search") == query


@pytest.mark.parametrize(
    ("answer", "gold", "match"),
    [
        ("The Titanic", "titanic", True),
        ("U.S.", "us", True),
        ("Spider-Man", "spiderman", True),
        ("Spider-Man", "spider man", False),
        ("July 17th, 2024", "july 17th 2024", True),
        ("Jean\u2011Luc", "jeanluc", False),
        ("$3.5", "35", True),
        ("RMS Titanic", "Titanic", False),
    ],
)
async def test_mmsearch_r1_extracts_the_answer_that_the_match_rules_expect(answer: str, gold: str, match: bool) -> None:
    _, state = await play([f"{R}<answer> {answer} </answer>"], "mmsearch_r1")
    assert state["answer"] == answer
    assert (normal(state["answer"]) == normal(gold)) is match


# --- DeepMMSearch-R1

C = "<img_search>the white bird</img_search>"
WH = "<img_search><img></img_search>"
E = "<answer>Egret</answer>"
G = f"<answer>{GIVE_UP}</answer>"

DEEPMMSEARCH_R1: list[tuple[int, list[str], list[str], int, bool]] = [
    (1, [R + E], ["answer"], 1, True),
    (2, [R + "<answer>Heron</answer>"], ["answer"], 1, False),
    (3, [E], ["answer"], 0, True),
    (4, [R + E + "."], ["none"], 0, False),
    (5, [R + " so " + E], ["answer"], 1, True),
    (6, [R + C, R + E], ["crop", "answer"], 1, True),
    (7, [R + WH, R + E], ["image", "answer"], 1, True),
    (8, [R + T, R + E], ["text", "answer"], 1, True),
    (9, [R + C, R + T, R + E], ["crop", "text", "answer"], 1, True),
    (10, [R + WH, R + T, R + T, R + E], ["image", "text", "text", "answer"], 1, True),
    (11, [R + T, R + T, R + E], ["text", "text", "answer"], 1, True),
    (12, [R + T, R + C, R + E], ["text", "crop", "answer"], 1, True),
    (13, [R + C, R + WH], ["crop", "none"], 0, False),
    (14, [R + "<img_search><img></img></img_search>"], ["none"], 0, False),
    (15, [R + "<img_search>img</img_search>"], ["none"], 0, False),
    (16, [R + "<img_search></img_search>"], ["none"], 0, False),
    (17, [R + "<text_search> </text_search>"], ["none"], 0, False),
    (18, [R + "<text_search>a\nb</text_search>", R + E], ["text", "answer"], 1, True),
    (19, [R + C + T, R + E], ["text", "answer"], 0, True),
    (20, [R + E + T, R + E], ["text", "answer"], 0, True),
    (21, [R + T + " please"], ["none"], 0, False),
    (22, [R + C, R + G], ["crop", "answer"], 1, False),
    (23, [R + C, R + GIVE_UP], ["crop", "none"], 0, False),
    (24, [R + T] * 10 + [R + E], ["text"] * 10 + ["answer"], 1, True),
    (25, [R + T] * 11, ["text"] * 10 + ["none"], 0, False),
    (26, [R + C, T, R + E], ["crop", "text", "answer"], 0, True),
    (27, [R + R + E], ["answer"], 0, True),
    (29, [R + "<img_search>the white bird </img_search>", R + E], ["crop", "answer"], 1, True),
    (30, [f"<reason>r{WH}</reason>{E}"], ["answer"], 0, True),
    (31, [R + "<search><img></search>"], ["none"], 0, False),
]


@pytest.mark.parametrize(("row", "turns", "actions", "form", "right"), DEEPMMSEARCH_R1)
async def test_deepmmsearch_r1_agrees_with_the_table(
    row: int, turns: list[str], actions: list[str], form: int, right: bool
) -> None:
    executed, state = await play(turns, "deepmmsearch_r1")
    answered = state["stop_reason"] == "answered" or (row == 22 and state["stop_reason"] == "gave_up")
    assert [*executed, "answer" if answered else "none"] == actions
    assert build("deepmmsearch_r1").well_formed(turns) is bool(form)
    assert (state["answer"] == "Egret") is right


async def test_deepmmsearch_r1_ends_when_the_token_budget_is_spent() -> None:
    """Row 28: crop and text run, then the budget is spent and nothing more does."""
    turns = [R + C, R + T, R + T]
    context = testing.context(turns, "deepmmsearch_r1")
    tokens = iter([(500, 100), (4000, 100), (8600, 100)])  # prompt and sampled tokens of each turn

    class Counting(testing.ScriptedPolicy):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            read, wrote = next(tokens)
            usage = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
            result.generations[0].message.usage_metadata = usage
            return result

    context.policy = Counting(turns)
    state = await search_agent.graph.ainvoke(
        {"question": "?", "images": [Image.new("RGB", (64, 48))]}, context=context, output_keys=EVERYTHING
    )
    assert [step["node"] for step in state["steps"] if "hits" in step] == ["image_search", "text_search"]
    assert (state["stop_reason"], state["answer"]) == ("token_limit", None)
    assert build("deepmmsearch_r1").well_formed(turns[:2]) is False


async def test_deepmmsearch_r1_searches_the_joined_lines_of_a_query() -> None:
    """Row 18."""
    _, state = await play([R + "<text_search>a\nb</text_search>", R + E], "deepmmsearch_r1")
    assert state["steps"][1]["query"] == "a b"


@pytest.mark.parametrize(
    ("row", "turns", "executed", "stop"),
    [
        (1, [E], [], "answered"),
        (2, [WH, E], ["image"], "answered"),
        (3, [C, E], ["crop"], "answered"),
        (4, [C, C], ["crop"], "search_limit"),
        (4, [T] * 10 + [C], ["text"] * 10, "search_limit"),
        (5, [T, E], ["text"], "answered"),
        (6, [T] * 11, ["text"] * 10, "search_limit"),
        (7, ["<text_search>\n</text_search>"], [], "malformed"),
        (7, ["<img_search> </img_search>"], [], "malformed"),
        (8, [R], [], "malformed"),
    ],
)
async def test_deepmmsearch_r1_follows_the_state_machine(
    row: int, turns: list[str], executed: list[str], stop: str
) -> None:
    found, state = await play(turns, "deepmmsearch_r1")
    assert (found, state["stop_reason"]) == (executed, stop)


async def test_deepmmsearch_r1_falls_back_to_the_whole_picture_and_says_so() -> None:
    """Row 9."""
    context = testing.context([C, E], "deepmmsearch_r1", locate=testing.FixedLocator(box=None))
    given = {"question": "?", "images": [Image.new("RGB", (64, 48))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert context.image_search.asked == [(64, 48)]
    observation = state["dialogue"][2].content
    assert observation.startswith("<information>Nothing in the picture matches")
    assert "The whole picture was searched instead." in observation
    assert "Kestrel Point Light" in observation


@pytest.mark.parametrize(
    ("payload", "region"),
    [("img", None), ("<img>", None), ("<img></img>", None), (" The white bird ", "The white bird")],
)
async def test_lenient_reading_accepts_both_spellings_of_the_whole_picture(payload: str, region: str | None) -> None:
    """Row 15, lenient."""
    from lensgraph.agent.limits import Spent

    action = build("deepmmsearch_r1", lenient=True).parse(f"{R}<img_search>{payload}</img_search>", Spent())
    assert action.region == region
