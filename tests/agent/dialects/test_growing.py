"""A turn that is read while it grows: the parts in which it comes change nothing, and no tag is told."""

import json
import random
from collections.abc import Sequence

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from lensgraph.agent.actions import Answer
from lensgraph.agent.dialects.growing import Growing
from lensgraph.agent.dialects.growing_calls import GrowingCalls
from lensgraph.agent.dialects.table import DIALECTS
from lensgraph.agent.dialects.tags import GIVE_UP

TAGGED = sorted(name for name in DIALECTS if isinstance(DIALECTS[name]().growing(), Growing))
WORDS = [
    "<reason>", "</reason>", "<think>", "</think>", "<answer>", "</answer>", "<text_search>", "</text_search>", "<crop>",
    "</crop>", "<search><img></search>", "<img>", "Paris", " ", "\n", "a < b", "</x", "<ans", "wer>", "<b>", "é", GIVE_UP,
]  # fmt: skip
TAGS = [f"<{slash}{name}>" for name in ("reason", "think", "answer", "text_search", "crop") for slash in ("", "/")]
SEEDS = range(400)


def turn_of(seed: int) -> str:
    """A turn of tags, pieces of tags and words in any order; some are well-formed at their beginning."""
    chance = random.Random(seed)
    lead = chance.choice(["", "<reason>I see", "<answer>", "<reason>r</reason><answer>"])
    return lead + "".join(chance.choices(WORDS, k=chance.randrange(12)))


def parts_of(turn: str, seed: int) -> list[str]:
    """The turn in parts, some of them empty."""
    chance = random.Random(seed)
    cuts = sorted(chance.choices(range(len(turn) + 1), k=chance.randrange(20)))
    return [turn[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(turn)], strict=True)]


def told(parts: Sequence[str], *, collapse: bool = False) -> dict[str, str]:
    """The thought and the answer of a turn that comes in these parts."""
    growing, found = Growing(collapse=collapse), {"thought": "", "answer": ""}
    for piece in parts:
        for part, text in growing.add(piece):
            found[part] += text
    return found


@pytest.mark.parametrize("collapse", [False, True])
def test_a_turn_in_any_parts_gives_the_same_texts(collapse: bool) -> None:
    for seed in SEEDS:
        turn = turn_of(seed)
        whole = told([turn], collapse=collapse)
        assert told(parts_of(turn, seed), collapse=collapse) == told(list(turn), collapse=collapse) == whole, turn


def test_no_tag_is_told_and_nothing_that_may_still_become_one() -> None:
    beginnings = {tag[:length] for tag in TAGS for length in range(1, len(tag))}
    for seed in SEEDS:
        growing, found, turn = Growing(), {"thought": "", "answer": ""}, turn_of(seed)
        for place, letter in enumerate(turn, 1):
            open_ends = tuple(begun for begun in beginnings if turn[:place].endswith(begun))
            for part, text in growing.add(letter):
                found[part] += text
                assert not open_ends or not found[part].endswith(open_ends), turn
        assert not [tag for tag in TAGS for text in found.values() if tag in text]


@pytest.mark.parametrize(
    ("turn", "thought", "answer"),
    [
        ("<reason>I see it.</reason><answer> Kestrel Point </answer>", "I see it.", "Kestrel Point"),
        ("<answer>a < b and c</answer>", "", "a < b and c"),
        ("<answer>1987", "", "1987"),
        ("<answer>1987</answer> and more <answer>1988</answer>", "", "1987"),
        ("<reason>first</reason><reason>second</reason><answer>x</answer>", "first", "x"),
        ("<reason>perhaps <answer>no</answer> not</reason><answer>yes</answer>", "perhaps", "yes"),
        ("<text_search>q</text_search><answer>made up</answer>", "", ""),
        ("<answer>a<text_search>b</text_search></answer>", "", "a"),
        (f"<answer>{GIVE_UP}.</answer>", "", ""),
        (f"<answer>{GIVE_UP}s</answer>", "", f"{GIVE_UP}s"),
        ("Paris", "", ""),
    ],
)
def test_the_first_thought_and_the_answer_behind_it_are_told(turn: str, thought: str, answer: str) -> None:
    assert told(list(turn)) == {"thought": thought, "answer": answer}


def test_an_answer_is_told_before_its_tag_is_closed() -> None:
    growing = Growing()
    assert list(growing.add("<answer>Kestrel")) == [("answer", "Kestrel")]
    assert list(growing.add(" Poi")) == [("answer", " Poi")]
    assert list(growing.add("nt</ans")) == [("answer", "nt")]


@pytest.mark.parametrize("name", TAGGED)
def test_what_is_told_of_a_well_formed_turn_is_what_its_dialect_reads(name: str) -> None:
    dialect = DIALECTS[name]()
    for seed in SEEDS:
        answer = "".join(random.Random(seed).choices(["a", "b", " ", "<", ">", "\n", ".", "</", "<b>"], k=9))
        turn = dialect.write("I know.", Answer(answer))
        read = dialect.read(turn)
        assert isinstance(read, Answer)
        assert told(parts_of(turn, seed)) == {"thought": dialect.thought(turn), "answer": read.text}, turn


def test_every_dialect_of_tags_is_read_while_it_grows() -> None:
    assert {"compact", "deepmmsearch_r1", "mmsearch_r1"} <= set(TAGGED)


def heard(calls: list[tuple[str, str]], seed: int, thought: str = "") -> dict[str, str]:
    """The texts of a turn of calls (name, arguments), whose parts come as providers send them."""
    growing, found = GrowingCalls(), {"thought": "", "answer": ""}
    chunks = [AIMessageChunk("", additional_kwargs={"reasoning_content": part}) for part in parts_of(thought, seed)]
    for index, (name, arguments) in enumerate(calls):
        chunks.append(AIMessageChunk("", tool_call_chunks=[tool_call_chunk(name=name, args="", id="c", index=index)]))
        for part in parts_of(arguments, seed):
            chunks.append(AIMessageChunk("", tool_call_chunks=[tool_call_chunk(args=part, index=index)]))
    for chunk in chunks:
        for part, text in growing.hear(chunk):
            found[part] += text
    return found


def test_a_call_in_any_parts_tells_its_answer_and_no_other_call_does() -> None:
    letters = ["a", " ", "é", "\n", '"', "\\", "🗿", "}", "{", "</answer>"]
    for seed in SEEDS:
        text = "".join(random.Random(seed).choices(letters, k=12))
        for ascii_only in (True, False):
            arguments = json.dumps({"text": text}, ensure_ascii=ascii_only)
            assert heard([("answer", arguments)], seed, " I\nsee ") == {"thought": "I\nsee", "answer": text.strip()}, (
                text
            )
            search = ("text_search", json.dumps({"query": text}))
            assert heard([search, ("answer", arguments)], seed)["answer"] == ""
    assert heard([("answer", json.dumps({"text": GIVE_UP}))], 3)["answer"] == ""
    assert heard([("answer", "[[[[")], 3)["answer"] == heard([("answer", "{no json")], 3)["answer"] == ""
