"""Bodies from the web: their kind told from their own bytes, and unpacking that never grows beyond a cap.

Invariant: unpacking stops at the cap, however small the packed bytes are; only encodings that the standard library can
unpack step by step are unpacked (gzip, deflate), one layer of them.
"""

from __future__ import annotations

import zlib
from typing import Literal

from lensgraph.tools.guard.addresses import Refused
from lensgraph.tools.results import ToolFailure

Kind = Literal["html", "xml", "text", "json", "pdf", "image", "archive", "media", "program", "binary"]
"""Kinds of body."""
PAGE: tuple[Kind, ...] = ("html", "xml", "text", "json", "pdf")
"""Kinds that can be read as a page."""
PICTURE: tuple[Kind, ...] = ("image",)
"""Kinds that can be decoded as a picture."""
ENCODINGS = "gzip, deflate"
"""Value of the Accept-Encoding header."""

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image"), (b"\xff\xd8\xff", "image"), (b"GIF87a", "image"), (b"GIF89a", "image"),
    (b"BM", "image"), (b"II*\x00", "image"), (b"MM\x00*", "image"), (b"\x00\x00\x01\x00", "image"),
    (b"PK\x03\x04", "archive"), (b"PK\x05\x06", "archive"), (b"\x1f\x8b", "archive"), (b"BZh", "archive"),
    (b"\xfd7zXZ\x00", "archive"), (b"\x28\xb5\x2f\xfd", "archive"), (b"7z\xbc\xaf\x27\x1c", "archive"), (b"Rar!", "archive"),
    (b"\x7fELF", "program"), (b"MZ", "program"), (b"\xca\xfe\xba\xbe", "program"), (b"\xcf\xfa\xed\xfe", "program"),
    (b"\x00asm", "program"), (b"#!", "program"),
    (b"ID3", "media"), (b"OggS", "media"), (b"fLaC", "media"), (b"\x1a\x45\xdf\xa3", "media"),
)  # fmt: skip
_SHORT = {b"BM", b"MZ", b"#!", b"ID3", b"BZh"}
"""Magic bytes that ordinary words may begin with: they count only where the rest is no text."""
_HTML = (
    b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta", b"<!--", b"<div", b"<p>", b"<p ",
    b"<h1", b"<table", b"<a ", b"<br", b"<style", b"<b>", b"<iframe", b"<font",
)  # fmt: skip
_TEXT_CONTROLS = frozenset(b"\t\n\x0c\r\x1b")


def sniff(body: bytes, declared: str = "") -> Kind:
    """The kind of body, told from its first bytes. `declared` (the Content-Type) only decides between kinds of text."""
    start = body[:1024]
    is_text = _is_text(start)
    for magic, kind in _MAGIC:
        if start.startswith(magic) and not (magic in _SHORT and is_text):
            return kind
    if start[:4] == b"RIFF":
        return "image" if start[8:12] == b"WEBP" else "media"
    if start[4:8] == b"ftyp":
        return "image" if start[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1") else "media"
    if b"%PDF-" in start:
        return "pdf"
    if not is_text:
        return "binary"
    if start.startswith(b"#!"):
        return "program"
    words = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    media_type = declared.partition(";")[0].strip().lower()
    if words.startswith(_HTML):
        return "html"
    if words.startswith((b"<?xml", b"<svg", b"<rss", b"<feed", b"<!doctype")):
        return "html" if b"<html" in words else "xml"
    if media_type.endswith("json") and words[:1] in (b"{", b"["):
        return "json"
    return "html" if media_type in ("text/html", "application/xhtml+xml") else "text"


def _is_text(start: bytes) -> bool:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        return True
    return not any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in start)


class Unpacker:
    """Undoes the content encoding while a body arrives."""

    def __init__(self, url: str, encoding: str, max_bytes: int) -> None:
        encoding = encoding.strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise Refused(
                f"{url}: packed as {encoding[:40]!r}, which was not asked for and is not unpacked.", "refused"
            )
        self._url, self._encoding, self._max_bytes = url, encoding, max_bytes
        self._unzip = None if encoding == "identity" else zlib.decompressobj(15 if encoding == "deflate" else 31)
        self._packed = 0
        self.body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add the next chunk; raises `Refused` once the body is over the cap, packed or not."""
        self._packed += len(data)
        if self._unzip is None:
            self.body += data
        else:
            self._inflate(data)
        if max(self._packed, len(self.body)) > self._max_bytes:
            raise Refused(
                f"{self._url}: body is over the cap of {self._max_bytes:,} bytes; give a smaller file.", "refused"
            )

    def _inflate(self, data: bytes) -> None:
        assert self._unzip is not None
        while data:
            room = self._max_bytes + 1 - len(self.body)
            if room <= 0:
                return
            try:
                self.body += self._unzip.decompress(data, room)
            except zlib.error as error:
                if self._encoding == "deflate" and not self.body and self._packed == len(data):
                    # Some servers send it without the header that the standard asks for.
                    self._encoding, self._unzip = "raw deflate", zlib.decompressobj(-15)
                    continue
                raise ToolFailure("malformed", f"{self._url}: the packed body is damaged.") from error
            data = self._unzip.unconsumed_tail
            if self._unzip.eof and self._unzip.unused_data:  # gzip may hold several members
                data = self._unzip.unused_data
                self._unzip = zlib.decompressobj(31)

    def close(self) -> bytes:
        """End the body and return all of it; raises `ToolFailure` where packed bytes are missing."""
        if self._unzip is not None and self._packed and not self._unzip.eof:
            raise ToolFailure("malformed", f"{self._url}: the packed body ends too early.")
        return bytes(self.body)
