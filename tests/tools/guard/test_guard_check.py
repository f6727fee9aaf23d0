"""The guard's own list of hostile and honest addresses: each ends as it must, and the lists keep their size."""

import tracemalloc
import zlib

import guard_check
import pytest
from check_commands import main

from lensgraph.tools.guard import bodies
from lensgraph.tools.guard.addresses import Refused, check_name
from lensgraph.tools.results import ToolFailure

pytestmark = pytest.mark.contract


def test_the_lists_are_as_long_as_promised_and_hold_nothing_twice() -> None:
    assert len(set(guard_check.ADDRESSES)) == len(guard_check.ADDRESSES) >= 60
    assert len({trick.name for trick in guard_check.TRICKS}) == len(guard_check.TRICKS) >= 15
    assert len({honest.name for honest in guard_check.HONEST}) == len(guard_check.HONEST) >= 20


@pytest.mark.parametrize("url", guard_check.ADDRESSES)
async def test_an_address_is_refused_before_anything_is_connected_to(url: str) -> None:
    async with guard_check.wired() as wire:
        outcome = await guard_check.try_address(wire, url)
    assert outcome.passed, outcome.said


@pytest.mark.parametrize("trick", guard_check.TRICKS, ids=lambda trick: trick.name)
async def test_a_hostile_host_gets_nowhere(trick: guard_check.Trick) -> None:
    async with guard_check.wired() as wire:
        outcome = await guard_check.try_trick(wire, trick)
    assert outcome.passed, outcome.said


@pytest.mark.parametrize("honest", guard_check.HONEST, ids=lambda honest: honest.name)
async def test_an_honest_host_is_let_through(honest: guard_check.Honest) -> None:
    async with guard_check.wired() as wire:
        outcome = await guard_check.try_honest(wire, honest)
    assert outcome.passed, outcome.said


async def test_the_check_can_fail() -> None:
    """A guard that lets everything through, and one that lets nothing through, are both noticed."""
    async with guard_check.wired() as wire:
        assert not (await guard_check.try_address(wire, "http://example.com/")).passed
        kind = guard_check.Trick("none", lambda _: guard_check.answer(b"words"))
        assert not (await guard_check.try_trick(wire, kind)).passed
        cruel = guard_check.Honest("none", lambda _: guard_check.to("http://127.0.0.1/"))
        assert not (await guard_check.try_honest(wire, cruel)).passed


def test_the_command_prints_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard"]) == 0
    printed = capsys.readouterr().out.splitlines()
    counts = (len(guard_check.ADDRESSES), len(guard_check.TRICKS), len(guard_check.HONEST))
    kinds = ("addresses refused", "tricks refused", "honest let through")
    assert printed == [f"{kind}: {count} of {count}" for kind, count in zip(kinds, counts, strict=True)]


def test_a_bomb_takes_no_more_memory_than_the_cap() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    assert len(packed) < 250_000
    unpacker = bodies.Unpacker("http://example.com/", "gzip", 500_000)
    tracemalloc.start()
    with pytest.raises(Refused, match="over the cap"):
        unpacker.feed(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_packed_body_may_arrive_in_any_pieces(piece: int) -> None:
    words = b"some words " * 500
    for encoding, packed in (
        ("gzip", zlib.compress(words, wbits=31)),
        ("gzip", zlib.compress(words, wbits=31) * 2),
        ("deflate", zlib.compress(words)),
        ("identity", words),
    ):
        unpacker = bodies.Unpacker("u", encoding, 100_000)
        for start in range(0, len(packed), piece):
            unpacker.feed(packed[start : start + piece])
        assert unpacker.close() in (words, words * 2)


def test_deflate_without_its_header_is_unpacked_too() -> None:
    unpacker = bodies.Unpacker("u", "deflate", 1000)
    unpacker.feed(zlib.compress(b"words", wbits=-15))
    assert unpacker.close() == b"words"
    with pytest.raises(ToolFailure, match="damaged"):
        bodies.Unpacker("u", "deflate", 1000).feed(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    ("start", "declared", "kind"),
    [
        (b"<!DOCTYPE HTML><p>", "", "html"),
        (b"\xef\xbb\xbf\n <html>", "", "html"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html>', "", "html"),
        (b'<?xml version="1.0"?><rss>', "text/html", "xml"),
        (b"<svg>", "image/svg+xml", "xml"),
        (b"Hello", "text/html; charset=utf-8", "html"),
        (b"Hello", "", "text"),
        (b"BMW makes cars", "", "text"),
        (b"MZ is a country code", "", "text"),
        (b"#!/bin/sh\nrm -rf", "text/html", "program"),
        ("caf\u00e9".encode("latin-1"), "", "text"),
        ("\ufeffwords".encode("utf-16-le"), "", "text"),
        (b'{"a": 1}', "application/ld+json", "json"),
        (b'{"a": 1}', "text/plain", "text"),
        (b"%PDF-1.4", "text/html", "pdf"),
        (b"\n\n%PDF-1.4", "", "pdf"),
        (b"RIFF....WEBPVP8 ", "", "image"),
        (b"RIFF....WAVEfmt ", "", "media"),
        (b"\x00\x00\x00\x18ftypavif", "", "image"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4", "media"),
        (b"BM\x36\x00\x00\x00", "", "image"),
        (b"\x1f\x8b\x08", "text/html", "archive"),
        (b"\x00\x01\x02", "text/html", "binary"),
        (b"", "", "text"),
    ],
)
def test_a_body_is_what_its_bytes_say(start: bytes, declared: str, kind: str) -> None:
    assert bodies.sniff(start, declared) == kind


@pytest.mark.parametrize(
    "name", ["a_b.example.com", "xn--strae-oqa.de", "1and1.com", "3.de", "example.com.", "1.2.3.4"]
)
def test_odd_but_honest_names_are_let_through(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a..b.com", "a b.com", "-/.com", "x" * 64 + ".com", "1.2.3", "a.0x7f"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)
