"""A PDF is read under caps: bombs are refused in bounded memory and time, honest ones are read or cut."""

import tracemalloc
from collections.abc import Callable

import guard_pdfs
import pypdf
import pytest

from lensgraph.tools import guard
from lensgraph.tools.documents import pdf
from lensgraph.tools.documents.readers import TooMuch, Unreadable, read
from lensgraph.tools.pages.fetch import extract
from lensgraph.tools.results import ToolFailure


@pytest.mark.parametrize(
    ("bomb", "said"),
    [
        (guard_pdfs.four_gigabytes, "Limit reached while decompressing"),
        (guard_pdfs.object_streams, "it unpacks to more than 67,108,864 bytes"),
        (guard_pdfs.forms_in_forms, "draw more than 20,000 forms"),
        (guard_pdfs.one_page_again, "page tree entry limit"),
        (guard_pdfs.endless_program, "tokens per stream"),
    ],
)
def test_a_bomb_is_refused(bomb: Callable[[], bytes], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_SECONDS", 600.0)  # by its own cap, however busy the machine is
    data = bomb()
    assert len(data) < 1_000_000
    with pytest.raises(TooMuch, match=said) as caught:
        read("a.pdf", data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bomb", [guard_pdfs.four_gigabytes, guard_pdfs.object_streams])
def test_a_bomb_takes_no_more_memory_than_the_caps(bomb: Callable[[], bytes]) -> None:
    data = bomb()
    tracemalloc.start()
    with pytest.raises(TooMuch):
        read("a.pdf", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The sum of the caps, and the stream that went past it while it is unpacked and copied.
    assert peak < pdf.MAX_UNPACKED_BYTES + 4 * pdf.MAX_STREAM_BYTES


def test_a_bomb_from_the_web_is_refused_and_not_called_damaged() -> None:
    body = guard_pdfs.four_gigabytes()
    with pytest.raises(ToolFailure) as caught:
        extract(guard.Fetched("http://example.com/a.pdf", body, "pdf", "application/pdf"))
    assert caught.value.reason == "refused"


def test_reading_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside of a form, where pypdf goes on after an exception."""
    monkeypatch.setattr(pdf, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(pdf, "MAX_DRAWN", 10**9)
    with pytest.raises(TooMuch, match=r"takes more than 0\.1 s"):
        read("a.pdf", guard_pdfs.forms_in_forms())


def test_a_long_document_is_cut_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    page = read("a.pdf", guard_pdfs.words()).text
    assert page == "The kestrel hovers before it strikes."
    assert read("a.pdf", guard_pdfs.words(5)).text.count("kestrel") == 5
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    assert read("a.pdf", guard_pdfs.words(5)).text.count("kestrel") == 2


def test_the_caps_hold_for_no_other_reader() -> None:
    before = pypdf.get_configuration()
    with pytest.raises(Unreadable):
        read("a.pdf", guard_pdfs.four_gigabytes())
    assert pypdf.get_configuration() == before
