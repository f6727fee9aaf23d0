"""A document's bytes to title, plain text and the pictures it shows. Reads txt, md, html and pdf.

Invariant: nothing in a document is executed or fetched; a document over the size cap is refused before it is parsed, and a PDF
over a cap of its own while it is read (`pdf`); a file that cannot be read raises `Unreadable`, with the reason in one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote

from lensgraph.tools.safety.one_line import one_line

MAX_BYTES = 50 * 1024 * 1024
"""Largest document that is read."""
MAX_CHARS = 2_000_000
"""Text beyond this is left out: about a thousand pages."""


class Unreadable(ValueError):
    """The document cannot be read; the message says why in one line."""


class TooMuch(Unreadable):
    """The document would take more memory or time than allowed."""


@dataclass(frozen=True)
class Document:
    """Title, text and pictures of a document."""

    title: str
    """The document's own title. Empty: it has none, the file name serves."""
    text: str
    """Plain text; paragraphs, list items and table rows end with a newline."""
    pictures: tuple[str, ...] = field(default=())
    """Relative addresses of the pictures it shows, as written. Addresses on the web are left out."""


def read(name: str, data: bytes) -> Document:
    """Read a document by the ending of its file name."""
    reader = READERS.get(PurePosixPath(name.lower()).suffix)
    if reader is None:
        raise Unreadable(f"no reader for this kind of file; readable are {', '.join(sorted(READERS))}")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{len(data):,} bytes is over the cap of {MAX_BYTES:,}; split it")
    if not data.strip():
        raise Unreadable("it is empty")
    document = reader(data)
    if not document.text.strip() and not document.pictures:
        raise Unreadable("it holds no text (a scan? run text recognition first)")
    return Document(document.title.strip()[:300], document.text[:MAX_CHARS].strip(), document.pictures)


def decode(data: bytes) -> str:
    """Text of unknown encoding: by its byte order mark, else UTF-8, else Latin-1; binary files are refused."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\x00" in data[:4096]:
        raise Unreadable("it is a binary file, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _text(data: bytes) -> Document:
    return Document("", decode(data))


_MD_PICTURE = re.compile(
    r"!\[([^\]]*)\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)|<img[^>]+src=[\"']([^\"']+)[^>]*>", re.I
)
_MD_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_MD_MARKS = re.compile(
    r"(?m)^[ ]{0,3}(?:#{1,6}[ \t]+|>[ ]?|[-*+][ \t]+|```.*$)|(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)|`"
)


def _markdown(data: bytes) -> Document:
    raw = decode(data)
    head = re.match(r"\A---\n(.*?)\n---\n", raw, re.S)
    body = raw[head.end() :] if head else raw
    named = re.search(r"(?m)^title:\s*[\"']?(.+?)[\"']?\s*$", head[1]) if head else None
    first = re.search(r"(?m)^#{1,2}\s+(.+?)\s*#*\s*$", body)
    title = named[1] if named else _MD_MARKS.sub("", first[1]) if first else ""
    pictures = [found[2] or found[3] for found in _MD_PICTURE.finditer(body)]
    text = _MD_PICTURE.sub(lambda found: found[1] or "", body)
    text = _MD_MARKS.sub("", _MD_LINK.sub(r"\1", text))
    return Document(title, tidy(text), _local(pictures))


SILENT = frozenset({"script", "style", "noscript", "template", "svg", "head", "nav", "footer"})
"""Elements whose words are invisible, or belong to a menu."""
BLOCKS = frozenset(
    "p div br li tr h1 h2 h3 h4 h5 h6 section article table ul ol dl dt dd blockquote pre hr figure figcaption".split()
)
"""Elements that begin and end a line."""


class _Page(HTMLParser):
    """Visible text with line ends where a browser would put them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self.pictures: list[str] = []
        self._silent: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note pictures and line ends."""
        if tag == "body":
            # A head that was never closed must not silence the page.
            self._silent.clear()
        if tag in SILENT:
            self._silent.append(tag)
        if tag == "title" or (tag == "h1" and not self.heading):
            self._inside = tag
        if tag == "img" and not self._silent:
            values = dict(attrs)
            self.pictures.append(values.get("src") or "")
            self.parts.append(" " + (values.get("alt") or "") + " ")
        if tag in BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened."""
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        if tag == self._inside:
            self._inside = ""
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Keep visible text."""
        if self._inside == "title":
            self.title.append(data)
            return
        if self._inside == "h1":
            self.heading.append(data)
        if not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))


def _html(data: bytes) -> Document:
    declared = re.search(rb"<meta[^>]+charset=[\"']?([\w-]+)", data[:2048], re.I)
    try:
        text = data.decode(declared[1].decode() if declared else "utf-8")
    except (LookupError, UnicodeDecodeError):
        text = decode(data)
    page = _Page()
    page.feed(text)
    page.close()
    title = " ".join("".join(page.title).split()) or " ".join("".join(page.heading).split())
    return Document(title, tidy("".join(page.parts)), _local(page.pictures))


def _pdf(data: bytes) -> Document:
    try:
        from lensgraph.tools.documents import pdf  # pypdf takes 0.2 s to import: only folders with a PDF pay for it
    except ImportError as error:
        raise Unreadable("pypdf is not installed; run 'pip install pypdf'") from error
    try:
        title, pages = pdf.read(data, MAX_CHARS)
    except pdf.PdfOverLimit as error:
        raise TooMuch(f"a PDF that asks for too much ({error})") from error
    except pdf.Locked as error:
        raise Unreadable(str(error)) from error
    except Exception as error:  # pypdf raises almost anything on a damaged file
        raise Unreadable(f"damaged PDF ({one_line(error, 100)})") from error
    return Document(title, tidy(_unwrap("\n\n".join(pages))))


def _unwrap(text: str) -> str:
    """Join lines that were broken to fit a printed page: a line that goes on in lower case is one sentence."""
    text = re.sub(r"(\w)-\n(?=[a-z])", r"\1", text)
    return re.sub(r"(?<=[\w,;])[ \t]*\n(?=[a-z(])", " ", text)


def tidy(text: str) -> str:
    """The text with single spaces, and one blank line at most between two lines."""
    lines = (re.sub(r"[ \t\r\f\v\u00a0]+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _local(pictures: list[str]) -> tuple[str, ...]:
    own = (
        unquote(p.split("#")[0].split("?")[0])
        for p in pictures
        if p and not re.match(r"[a-z][a-z0-9+.-]*:|//", p, re.I)
    )
    return tuple(dict.fromkeys(p for p in own if p))


READERS: dict[str, Callable[[bytes], Document]] = {
    ".txt": _text,
    ".text": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
"""File name ending -> reader."""
