"""Small PDFs that ask their reader for gigabytes, for hours, or for the same page ten thousand times."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

_BLOCK = 1 << 20


def zeros(count: int) -> bytes:
    """`count` MiB of zeros, packed by zlib without ever being written down: a flushed block repeats to the byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    checksum = (count * _BLOCK % 65521) << 16 | 1
    return b"\x78\xda" + block * count + end + checksum.to_bytes(4, "big")


def pdf(bodies: Iterable[str | bytes]) -> bytes:
    """A PDF of these objects, numbered from 1; the first is its root."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(bodies, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + (body.encode() if isinstance(body, str) else body) + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size, at = len(places) + 1, len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size + table
    return bytes(out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, at))


def stream(data: bytes, about: str = "") -> bytes:
    """An object that holds bytes."""
    return b"<< /Length %d %s >>\nstream\n" % (len(data), about.encode()) + data + b"\nendstream"


def _pages(kids: str, count: int) -> list[str]:
    return ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {count} >>"]


FONT = "/Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"


def _page(contents: int, draws: str = "") -> str:
    about = f"/MediaBox [0 0 300 300] /Resources << {FONT} {draws} >>"
    return f"<< /Type /Page /Parent 2 0 R {about} /Contents {contents} 0 R >>"


def four_gigabytes() -> bytes:
    """One page whose stream is packed twice: 30 kilobytes that stand for 4 GiB."""
    packed = zlib.compress(zeros(4096), 9)
    return pdf([*_pages("3 0 R", 1), _page(4), stream(packed, "/Filter [/FlateDecode /FlateDecode]")])


def forms_in_forms(levels: int = 12, times: int = 10) -> bytes:
    """A page that draws a form ten times, which draws a form ten times, and so on."""
    draws = [f"/XObject << /F {5 + level} 0 R >>" for level in range(levels)]
    draw = b"/F Do " * times
    about = "/Type /XObject /Subtype /Form /BBox [0 0 9 9]"
    forms = [stream(draw, f"{about} /Resources << {draws[level]} >>") for level in range(1, levels)]
    return pdf([*_pages("3 0 R", 1), _page(4, draws[0]), stream(draw), *forms, stream(b"BT (x) Tj ET", about)])


def one_page_again(count: int = 100_000) -> bytes:
    """One page, listed a hundred thousand times."""
    return pdf([*_pages("3 0 R " * count, count), _page(4), stream(b"BT (x) Tj ET")])


def endless_program() -> bytes:
    """A page of five million steps, each of which is little."""
    return pdf([*_pages("3 0 R", 1), _page(4), stream(zlib.compress(b"q Q " * 3_000_000, 9), "/Filter /FlateDecode")])


def object_streams(count: int = 20) -> bytes:
    """Every page of the list lies in an object stream of its own, of 15 MiB."""
    out, places = bytearray(b"%PDF-1.7\n"), {}
    kids = " ".join(f"{100 + n} 0 R" for n in range(count))
    plain = dict(enumerate(_pages(kids, count), start=1)) | {3: stream(b"BT (x) Tj ET").decode()}
    for number, body in plain.items():
        places[number] = len(out)
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    for n in range(count):
        head = f"{100 + n} 0 ".encode()
        packed = zlib.compress(head + _page(3).encode() + b" x" + b"x" * (15 * _BLOCK), 1)
        places[1000 + n] = len(out)
        about = f"/Type /ObjStm /N 1 /First {len(head)} /Filter [/FlateDecode /FlateDecode]"
        out += f"{1000 + n} 0 obj\n".encode() + stream(zlib.compress(packed, 9), about) + b"\nendobj\n"
    rows = bytearray()
    for number in range(1000 + count):
        if number in places:
            rows += b"\x01" + places[number].to_bytes(4, "big") + b"\0\0"
        elif 100 <= number < 100 + count:
            rows += b"\x02" + (900 + number).to_bytes(4, "big") + b"\0\0"
        else:
            rows += bytes(7)
    at = len(out)
    about = f"/Type /XRef /Size {1000 + count} /W [1 4 2] /Root 1 0 R"
    return bytes(out + b"9999 0 obj\n" + stream(bytes(rows), about) + b"\nendobj\nstartxref\n%d\n%%%%EOF" % at)


def words(pages: int = 1) -> bytes:
    """An honest one."""
    text = stream(
        zlib.compress(b"BT /F 12 Tf 20 250 Td (The kestrel hovers before it strikes.) Tj ET"), "/Filter /FlateDecode"
    )
    kids = " ".join(f"{4 + number} 0 R" for number in range(pages))
    return pdf([*_pages(kids, pages), text, *[_page(3)] * pages])
