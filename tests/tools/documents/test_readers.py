"""Documents become plain text with a title; nothing in them runs, and what cannot be read says why."""

import io

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from lensgraph.tools.documents.readers import MAX_BYTES, Unreadable, read


def pdf(*lines: str, title: str = "", password: str = "") -> bytes:
    """A one-page PDF with these lines of text."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
    )
    stream = DecodedStreamObject()
    moves = " ".join(f"({line}) Tj 0 -20 Td" for line in lines)
    stream.set_data(f"BT /F1 12 Tf 20 250 Td {moves} ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_plain_text_is_read_in_the_common_encodings() -> None:
    for data in ("café".encode(), "café".encode("utf-8-sig"), "café".encode("utf-16"), "café".encode("latin-1")):
        assert read("a.txt", data).text == "café"


def test_markdown_loses_its_marks_and_keeps_its_words() -> None:
    document = read(
        "a.md",
        b"---\ntitle: 'My trip'\n---\n# Kenya\n\nWe saw **lions** and *snake_case* `code`. [a link](http://x.y)\n\n- one\n> two\n"
        b"![the flag](img/ke.png \"Flag\") ![remote](https://x.y/z.png) <img src='b%20c.png'>",
    )
    assert document.title == "My trip"
    assert document.text.startswith("Kenya\n\nWe saw lions and snake_case code. a link\n\none\ntwo\nthe flag remote")
    assert document.pictures == ("img/ke.png", "b c.png")
    assert read("b.md", b"text\n\n## Second *level* ##\n").title == "Second level"


def test_html_gives_visible_text_only() -> None:
    document = read(
        "a.html",
        b"<html><head><title>A &amp; B</title><style>p{}</style><script>alert('no')</script></head><body><nav>menu</nav>"
        b"<h1>Head</h1><p>One &eacute;<br>two<table><tr><td>a</td><td>b</td></tr></table><noscript>off</noscript>"
        b"<img src='../p.png?x=1' alt='a dog'><img src='data:image/png;base64,xx'><img src='//cdn/x.png'></body></html>",
    )
    assert document.title == "A & B"
    assert document.text.split("\n") == ["Head", "", "One é", "two", "", "a b", "", "a dog"]
    assert document.pictures == ("../p.png",)


def test_html_that_is_broken_or_in_another_encoding_is_read_as_far_as_it_goes() -> None:
    assert read("a.html", b"<p>unclosed <b>bold <script>x").text == "unclosed bold"
    assert read("a.html", b"<head><title>t</title><body>late body").text == "late body"
    assert read("a.htm", b"<meta charset=iso-8859-1><p>caf\xe9").text == "café"
    assert read("a.htm", b"<meta charset=nonsense><p>cafe").text == "cafe"


def test_a_pdf_gives_its_text_and_title() -> None:
    document = read(
        "a.pdf", pdf("The museum opens at", "nine in the morning.", "It is closed on Monday.", title="Guide")
    )
    assert document.title == "Guide"
    assert document.text == "The museum opens at nine in the morning.\nIt is closed on Monday."


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", b"%PDF-1.4 nope", "damaged PDF"),
        ("a.pdf", pdf("secret", password="x"), "encrypted"),
        ("a.pdf", pdf(), "no text"),
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n ", "empty"),
        ("a.txt", bytes(range(256)), "binary"),
        ("a.html", b"<script>only()</script>", "no text"),
        (
            "a.docx",
            b"PK",
            "no reader for this kind of file; readable are .htm, .html, .markdown, .md, .pdf, .text, .txt",
        ),
        ("a.txt", b"x" * (MAX_BYTES + 1), "over the cap"),
    ],
)
def test_what_cannot_be_read_says_why_in_one_line(name: str, data: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words) as caught:
        read(name, data)
    assert "\n" not in str(caught.value)
