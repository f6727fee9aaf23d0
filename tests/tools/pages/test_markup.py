"""A page costs a bounded amount of work, and one without an article is all its words."""

import time

import pytest
from lxml import etree

from lensgraph.tools import guard
from lensgraph.tools.pages import markup
from lensgraph.tools.pages.fetch import extract, warm_up


def page(body: str) -> guard.Fetched:
    return guard.Fetched(
        "http://h/", f"<html><title>T</title><body>{body}".encode(), "html", "text/html; charset=utf-8"
    )


@pytest.mark.parametrize("shape", ["<br>", "<p>some words.</p>", "<article><p><span>a</span> ", "<table><tr><td>a"])
def test_a_page_of_very_many_tags_takes_seconds_not_minutes(shape: str) -> None:
    warm_up()
    body = "<p>Kestrel Point was automated in 1987.</p>" + shape * (2_000_000 // len(shape))
    started = time.process_time()
    _, text = extract(page(body))
    assert time.process_time() - started < 15
    assert text


def test_what_is_left_out_is_the_end() -> None:
    assert markup.limited("<p>" * 5) == "<p>" * 5
    assert markup.limited("<p>" * (markup.MAX_TAGS + 9)) == "<p>" * markup.MAX_TAGS
    assert markup.limited(b"<p>" * markup.MAX_TAGS + b"<b>x") == b"<p>" * markup.MAX_TAGS
    assert len(markup.limited("a" * 2_000_000)) == markup.MAX_CHARS


def test_all_words_stand_in_lines_and_what_nobody_sees_is_left_out() -> None:
    body = (
        "<nav>Menu</nav><h1>Head</h1>one <b>two</b> three<!-- no --><br>four"
        "<script>no()</script><table><tr><td>a</td><td>b</td></tr></table>tail<div><div>deep</div></div>"
    )
    tree = warm_up().load_html(page(body).body)
    title, text = markup.all_words(tree)
    assert title == "T"
    assert [line for line in text.splitlines() if line] == ["Head", "one two three", "four", "a b", "tail", "deep"]


def test_a_page_nested_as_deeply_as_it_has_tags_is_read() -> None:
    deepest = tree = etree.Element("html")
    for _ in range(markup.MAX_TAGS):
        deepest = etree.SubElement(deepest, "div")
    deepest.text = "words"
    assert markup.all_words(tree) == ("", "words")
