"""Words find the page that is about the named thing, and the snippet is the line that answers."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lensgraph.tools.documents import words
from lensgraph.tools.documents.passages import query_pattern, score_passages, shorten, snippet
from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.index.index_store import FILE_NAME, IndexStore, NoIndex, PageRow
from lensgraph.tools.local.search_pages import LocalTextSearch

COUNTRIES = {
    "Guinea": "Conakry", "Papua New Guinea": "Port Moresby", "Equatorial Guinea": "Malabo", "Guinea-Bissau": "Bissau",
    "Kenya": "Nairobi", "Niger": "Niamey", "Nigeria": "Abuja", "Côte d'Ivoire": "Yamoussoukro", "Chad": "N'Djamena",
    "Dominica": "Roseau", "Dominican Republic": "Santo Domingo",
}  # fmt: skip


def pages() -> list[PageRow]:
    rows = []
    for number, (name, capital) in enumerate(COUNTRIES.items()):
        government = (
            f"Official name: Republic of {name}\nCapital city: {capital}\nOrigin of the capital's name: unknown\n"
            f'National anthem: "Song {number}"\nAnthem history: adopted in 19{number + 10}\nNational holiday: Day {number}'
        )
        geography = (
            f"Location: somewhere near {capital}\nHighest point: Mount {number} {number + 1},000 m\n"
            f"Total area: {number} sq km"
        )
        rows.append(PageRow(f"{name}/gov", f"{name}: Government", f"world:{name}/gov", government))
        rows.append(PageRow(f"{name}/geo", f"{name}: Geography", f"world:{name}/geo", geography))
    rows.append(PageRow("anthem", "National anthem", "w:anthem", "A national anthem is a patriotic song of a nation."))
    rows.append(
        PageRow("church", "Church (building)", "w:church", "A church is a building for worship. It has a nave.")
    )
    rows.append(PageRow("capital", "Capital city", "w:capital", "A capital city holds the government of a country."))
    return rows


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "index"
    store = IndexStore.create(folder)
    with store.transaction():
        store.add_pages(pages())
    store.finish()
    store.close()
    return folder


@pytest.fixture(scope="module")
def engine(index: Path) -> LocalEngine:
    return LocalEngine.open(index)


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize(
    ("asked", "chapter", "line"),
    [
        ("{} national anthem", "Government", "National anthem: "),
        ("capital city of {}", "Government", "Capital city: "),
        ("What is the highest point in {}?", "Geography", "Highest point: "),
        ("{} total area", "Geography", "Total area: "),
        ("{} CAPITALS", "Government", "Capital city: "),
    ],
)
def test_the_page_of_the_named_country_comes_first_and_its_snippet_answers(
    engine: LocalEngine, country: str, asked: str, chapter: str, line: str
) -> None:
    hit = engine.search_text(asked.format(country), 3)[0]
    assert hit.title == f"{country}: {chapter}"
    assert line in hit.snippet


def test_accents_and_case_do_not_matter(engine: LocalEngine) -> None:
    assert engine.search_text("cote d'ivoire national anthem", 1)[0].title == "Côte d'Ivoire: Government"


def test_a_title_is_named_without_the_words_in_brackets(engine: LocalEngine) -> None:
    assert engine.search_text("church nave", 1)[0].title == "Church (building)"


@pytest.mark.parametrize("query", ["zzzqqq", "???", '"', "NEAR(", "* OR", "title:", "\x00", "a" * 900, "' OR 1=1 --"])
def test_no_query_is_a_syntax_error(engine: LocalEngine, query: str) -> None:
    assert isinstance(engine.search_text(query, 3), list)


def test_stop_words_alone_still_search(engine: LocalEngine) -> None:
    assert engine.search_text("what is the", 2)


def test_only_as_many_hits_as_asked_best_first(engine: LocalEngine) -> None:
    hits = engine.search_text("kenya", 4)
    scores = [hit.score for hit in hits]
    assert len(hits) <= 4
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]


def weighted(query: str) -> dict[str, float]:
    return {words.stem(word): 1.0 for word in words.query_words(query)}


def snip(text: str, query: str, limit: int = 200) -> str:
    weights = weighted(query)
    return snippet(text, score_passages(text, weights, query_pattern(weights)), limit)


def test_a_snippet_is_the_best_line_and_never_over_the_limit() -> None:
    text = "\n".join(f"Label {i}: value {i}" for i in range(50)) + '\nNational anthem: "One"\nMore: x'
    assert snip(text, "national anthem") == 'National anthem: "One"'
    for limit in (20, 50, 200):
        assert len(snip("word " * 500 + "anthem. " + "tail " * 500, "anthem", limit)) <= limit


def test_lines_of_a_snippet_stand_in_page_order() -> None:
    text = "Anthem history: b\nOther: c\nNational anthem: a"
    assert snip(text, "anthem") == "Anthem history: b\nNational anthem: a"


def test_sentences_of_prose_are_picked_out_and_gaps_are_shown() -> None:
    first, middle, last = (
        "The lion is a cat of Africa.",
        "It sleeps a lot during the day, often for twenty hours.",
        "Lion prides hunt at night.",
    )
    text = f"{first} {middle} {last} " + "Nothing else of note happens here at all. " * 5
    assert snip(text, "lion") == f"{first} ... {last}"


def test_initials_and_abbreviations_do_not_end_a_sentence() -> None:
    text = "The book by J. K. Rowling sold well. " + "Other words follow here to make it long enough. " * 4
    assert snip(text, "book").startswith("The book by J. K. Rowling sold well.")


def test_without_a_matching_line_the_snippet_is_the_beginning() -> None:
    assert snip("First line.\nSecond line.", "elephant") == "First line. Second line."
    assert snip("", "elephant") == ""


def test_a_shortened_text_is_marked_where_it_was_cut() -> None:
    text = " ".join(str(n) for n in range(200))
    cut = shorten(text, 300, 60)
    assert cut.startswith("... ")
    assert cut.endswith(" ...")
    assert len(cut) <= 60


def test_folding_keeps_every_position() -> None:
    for text in ("Côte d'Ivoire ﬁ ß İ ½ 日本 é", "Ångström", "Straße", "\u0130stanbul"):
        assert len(words.fold(text)) == len(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("countries", "country"),
        ("borders", "bordering"),
        ("bordered", "border"),
        ("churches", "church"),
        ("named", "names"),
    ],
)
def test_inflections_are_the_same_word(one: str, other: str) -> None:
    assert words.stem(one) == words.stem(other)


def test_opening_an_index_and_a_first_search_are_fast(index: Path) -> None:
    started = time.process_time()
    LocalEngine.open(index).search_text("kenya national anthem", 3)
    assert time.process_time() - started < 0.3


async def test_the_tool_searches_its_index(index: Path) -> None:
    result = await LocalTextSearch(index=index, k=2, snippet_chars=60).search("kenya national anthem")
    assert result.error is None
    assert result.hits[0].title == "Kenya: Government"
    assert len(result.hits) == 2
    assert all(len(hit.snippet) <= 60 for hit in result.hits)


async def test_a_missing_index_is_named_with_the_command_that_builds_it(tmp_path: Path) -> None:
    result = await LocalTextSearch(index=tmp_path / "none").search("kenya")
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert f"No index at '{tmp_path / 'none'}'. Build one with 'lensgraph index FOLDER" in result.error.message


def test_a_damaged_or_foreign_index_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(NoIndex, match="damaged"):
        IndexStore.open(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    store = IndexStore.create(tmp_path)
    store.set_meta("format", "0")
    store.close()
    with pytest.raises(NoIndex, match="format '0'"):
        IndexStore.open(tmp_path)


def test_removed_pages_are_no_longer_found(tmp_path: Path) -> None:
    store = IndexStore.create(tmp_path)
    with store.transaction():
        store.add_pages([PageRow("a", "Alpha", "", "one two"), PageRow("b", "Beta", "", "one three")])
    with store.transaction():
        store.remove(["a"])
    assert [row.id for row, _ in store.match(["one"], 9)] == ["b"]
    assert store.match(["two"], 9) == []
    assert store.pages_with("one") == 1


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = IndexStore.create(tmp_path)
    row = PageRow("a", "Alpha", "", "one")
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        store.add_pages([row, PageRow("b", "Beta", "", "one"), row])
    assert store.count("pages") == 0
    assert store.match(["one"], 9) == []


def test_a_killed_writer_leaves_an_index_that_opens(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lensgraph.tools.local.index.index_store import IndexStore, PageRow\n"
        "s = IndexStore.create(Path(sys.argv[1]))\n"
        "with s.transaction():\n    s.add_pages([PageRow('a', 'Alpha', '', 'one')])\n"
        "with s.transaction():\n    s._connection.execute('pragma cache_size=1')\n"
        "    s.add_pages(PageRow(str(i), 'T', '', 'x' * 5000) for i in range(500)); print('half', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == b"half"
        os.kill(writer.pid, signal.SIGKILL)
    store = IndexStore.open(tmp_path)
    assert [row.id for row, _ in store.match(["one"], 9)] == ["a"]
    assert store.count("pages") == 1
