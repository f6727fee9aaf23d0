"""Pictures that lie about their size or cost: `python tests/checks hostile-pictures`.

Each is small to make and small to send. The guard must refuse it in one line or read it, within `SECONDS` of CPU and `MEMORY`
bytes; both are measured in a process of its own, under limits of the system.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from lensgraph.tools import guard

SECONDS = 3.0
"""CPU seconds a picture may cost."""
MEMORY = 500_000_000
"""Bytes a picture may cost beyond what the process takes before, its file included."""
HARD_SECONDS, HARD_MEMORY = 20, 3_000_000_000
"""Limits that the system sets to the measuring process, so that a failure is seen and the machine survives it."""

Maker = Callable[[], bytes]


@dataclass(frozen=True)
class Outcome:
    """The end of one hostile picture."""

    name: str
    said: str
    """The refusal, the size of the picture read, or the raw exception."""
    raw: bool
    """True if anything but `Refused` was raised, or the process died."""
    seconds: float
    memory: int

    @property
    def passed(self) -> bool:
        """Whether the guard kept its promise."""
        return not self.raw and self.seconds <= SECONDS and self.memory <= MEMORY


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


# PNG


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"", raw: bytes | None = None
) -> bytes:
    """A PNG; without `raw` all its pixels are there and zero."""
    if raw is None:
        bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        raw = b"\4" + bytes(-(-width * bits // 8))  # Paeth, the slowest filter
        pack = zlib.compressobj(1)
        pixels = b"".join([*(pack.compress(raw) for _ in range(height)), pack.flush()])
    else:
        pixels = zlib.compress(raw)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(48))) if colour == 3 else b""
    body = chunk(b"IHDR", header) + palette + extra + chunk(b"IDAT", pixels) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + body


def png_frames(count: int) -> bytes:
    """An animated PNG of many frames."""
    frames = b"".join(
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * i, 4, 4, 0, 0, 1, 1, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", 2 * i + 1) + zlib.compress(b"\0" * 52))
        for i in range(1, count)
    )
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0))
    return png(4, 4, extra=chunk(b"acTL", struct.pack(">II", count, 0)) + first)[:-12] + frames + chunk(b"IEND")


# JPEG


def scan_bomb(width: int, height: int, scans: int, refine: bool = False, colours: int = 1) -> bytes:
    """A progressive JPEG of scans that hold almost nothing and still visit every block."""
    frame = struct.pack(">BHHB", 8, height, width, colours) + b"".join(
        bytes((i, 0x11, 0)) for i in range(1, colours + 1)
    )
    tables = b"\0" + bytes([1] * 64)
    huffman = bytes((0x10,)) + bytes((1,) + (0,) * 15) + b"\xe0"  # one code: a run of 2**14 empty blocks
    dc = bytes((0x00,)) + bytes((1,) + (0,) * 15) + b"\0"

    def segment(kind: int, body: bytes) -> bytes:
        return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body

    names = b"".join(bytes((i, 0)) for i in range(1, colours + 1))
    first = segment(0xDA, bytes((colours,)) + names + b"\0\0\x01") + b"\x7f"
    empty = segment(0xDA, bytes((1, 1, 0, 1, 63, 0x10 if refine else 0x01))) + bytes(64)
    return (
        b"\xff\xd8" + segment(0xDB, tables) + segment(0xC2, frame) + segment(0xC4, dc) + segment(0xC4, huffman)
        + first + empty * scans + b"\xff\xd9"
    )  # fmt: skip


def jpeg_with(segments: bytes, size: tuple[int, int] = (64, 64)) -> bytes:
    """An honest JPEG with more segments before its own."""
    return b"\xff\xd8" + segments + encoded(Image.new("RGB", size, "red"), "JPEG")[2:]


def exif_bomb(entries: int) -> bytes:
    """EXIF whose entries each name the same 60 kB."""
    body = b"".join(struct.pack("<HHII", 1000 + i, 7, 60_000, 8) for i in range(entries))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, entries) + body + b"\0\0\0\0"


def app(kind: int, body: bytes) -> bytes:
    """A JPEG segment of an application."""
    return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body


# TIFF


def tiff(fields: dict[int, tuple[int, list[int]]], pixels: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of one directory; 273 or 324 may hold -1 for the place of `pixels`."""
    start = 8 + len(pixels)
    behind, entries, values = start + 2 + 12 * len(fields) + 4, b"", b""
    for tag, (kind, numbers) in sorted(fields.items()):
        packed = (
            b"".join(struct.pack(" BBHI"[kind], 8 if n == -1 else n) for n in numbers)
            if kind != 4
            else struct.pack(f"<{len(numbers)}I", *(8 if n == -1 else n for n in numbers))
        )
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", behind + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", following) + values
    return b"II*\0" + struct.pack("<I", start) + pixels + directory


def grey(width: int, height: int, **more: tuple[int, list[int]]) -> dict[int, tuple[int, list[int]]]:
    """The fields of an 8-bit grey TIFF in one deflated strip; `t259=...` sets a field."""
    fields = {256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 273: (4, [-1]), 277: (3, [1]),
              278: (4, [height]), 279: (4, [100])}  # fmt: skip
    return fields | {int(name[1:]): value for name, value in more.items()}


def tile_bomb(side: int) -> bytes:
    """A TIFF of 10 x 10 pixels with one tile of `side` x `side`."""
    pixels = zlib.compress(bytes(side * side), 9) if side <= 20_000 else zeros(side * side)
    fields = grey(10, 10, t322=(4, [side]), t323=(4, [side]), t324=(4, [-1]), t325=(4, [len(pixels)]))
    return tiff({tag: value for tag, value in fields.items() if tag not in (273, 278, 279)}, pixels)


def zeros(count: int) -> bytes:
    """Zero bytes of the given number, deflated piece by piece."""
    pack, piece = zlib.compressobj(1), bytes(1_000_000)
    return b"".join([*(pack.compress(piece) for _ in range(count // 1_000_000)), pack.flush()])


def directories(count: int) -> bytes:
    """A TIFF of many directories of one entry."""
    entry = struct.pack("<HHHII", 1, 256, 4, 1, 1)
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(entry + struct.pack("<I", 8 + 18 * i) for i in range(1, count + 1))[:-4]
        + bytes(4)
    )


def second_directory_empty() -> bytes:
    """A TIFF whose second directory has no entry."""
    pixels = zlib.compress(bytes(100))
    data = tiff(grey(10, 10, t279=(4, [len(pixels)])), pixels)
    link = 8 + len(pixels) + 2 + 12 * 9
    return data[:link] + struct.pack("<I", len(data)) + data[link + 4 :] + bytes(6)


# WebP, GIF, BMP


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int = 2) -> tuple[bytes, bytes]:
    """A WebP canvas of any size."""
    return b"VP8X", bytes((flags, 0, 0, 0)) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def frame(width: int, height: int, x: int = 0) -> tuple[bytes, bytes]:
    """A frame of a WebP animation, at `x`."""
    inner = encoded(Image.new("RGB", (width, height), "red"), "WEBP")[12:]
    place = (
        struct.pack("<I", x // 2)[:3] + bytes(3) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    )
    return b"ANMF", place + bytes(4) + inner


def code_bomb(side: int, long: bool) -> bytes:
    """A lossless WebP with a Huffman code for every 4 x 4 pixels; `long` gives each 2,048 symbols for its green."""
    bits: list[str] = []

    def put(value: int, count: int) -> None:
        bits.append(f"{value:0{count}b}"[::-1])

    def even(length: int) -> None:  # a code of 2**length symbols of that length, which takes 60 bits
        order = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11).index(length)
        put(0, 1)
        put(order + 1 - 4, 4)
        put(1 << (3 * order), 3 * (order + 1))
        size = length + length % 2
        put(1, 1)
        put((size - 2) // 2, 3)
        put(2**length - 2, size)

    def single() -> None:  # a code of one symbol
        put(0b0001, 4)

    put(0x2F, 8)
    put(side - 1, 14)
    put(side - 1, 14)
    put(0, 4)  # opaque, version 0
    put(0, 1)  # no transform
    put(1 | 11 << 1, 5)  # a colour cache of 2**11
    put(1, 1)
    put(0, 3)  # a code for every 4 x 4 pixels
    put(0, 1)
    even(8)
    even(8)
    single()
    single()
    single()
    count = (side // 4) ** 2
    bits.extend(f"{i % 65_536:016b}" for i in range(count))
    start = len(bits)
    if long:
        even(11)
    else:
        single()
    for _ in range(4):
        single()
    bits.append("".join(bits[start:]) * (min(count, 65_536) - 1) + "0" * 4_000_000)
    packed = int("".join(bits)[::-1], 2)
    return webp((b"VP8L", packed.to_bytes(-(-packed.bit_length() // 8), "little") + bytes(500_000)))


def gif(screen: tuple[int, int], size: tuple[int, int], before: bytes = b"", at: int = 0) -> bytes:
    """A GIF whose frame need not fit its screen."""
    head = b"GIF89a" + struct.pack("<HH", *screen) + b"\x80\0\0" + bytes(6) + before
    return head + b"," + struct.pack("<HHHH", at, 0, *size) + b"\0\x02\x02\x44\x01\0;"


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, pixels: bytes = b"") -> bytes:
    """A BMP of any header."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def _noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.frombytes(mode, (width, height), os.urandom(width * height * len(mode)))


PICTURES: dict[str, Maker] = {
    "png: 30,000 x 30,000 in the header": lambda: png(30_000, 30_000, raw=b"\0"),
    "png: 2**31 - 1 pixels wide": lambda: png(2**31 - 1, 1, raw=b"\0"),
    "png: size zero": lambda: png(0, 10, raw=b"\0"),
    "png: 49 million pixels of zeros": lambda: png(7_000, 7_000),
    "png: 49 million pixels of RGBA": lambda: png(7_000, 7_000, colour=6),
    "png: 49 million pixels of 16-bit RGBA": lambda: png(7_000, 7_000, 16, 6, raw=b"\0"),
    "png: 42 million pixels of 16-bit RGB": lambda: png(6_500, 6_500, 16, 2),
    "png: 49 million pixels of 16-bit grey": lambda: png(7_000, 7_000, 16, 0),
    "png: 49 million pixels in a palette with transparency": lambda: png(7_000, 7_000, 8, 3, chunk(b"tRNS", b"\0")),
    "png: more pixels behind the picture": lambda: png(10, 10, raw=bytes(200_000_000)),
    "png: a million empty chunks": lambda: png(10, 10, extra=chunk(b"teSt") * 1_000_000),
    "png: a million empty pieces of pixels": lambda: png(10, 10, extra=chunk(b"IDAT") * 1_000_000),
    "png: text that unpacks to 100 MB": lambda: png(10, 10, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "png: 1,000 texts of 1 MB each": lambda: png(10, 10, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))) * 1_000),
    "png: 10,000 colour profiles": lambda: png(10, 10, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))) * 1_500),
    "png: 4,000 texts that break after 1 MB": lambda: png(
        10, 10, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))[:-4] + b"oops") * 4_000
    ),
    "png: 100,000 frames": lambda: png_frames(100_000),
    "png: a chunk of 4 GB": lambda: png(10, 10, extra=b"\xff\xff\xff\xffteSt"),
    "jpeg: 200 empty scans": lambda: scan_bomb(7_000, 7_000, 200),
    "jpeg: 2,000 empty scans": lambda: scan_bomb(7_000, 7_000, 2_000),
    "jpeg: 20,000 empty scans": lambda: scan_bomb(7_000, 7_000, 20_000),
    "jpeg: refining scans up to the cap": lambda: scan_bomb(7_000, 7_000, 14, refine=True),
    "jpeg: 100 refining scans": lambda: scan_bomb(7_000, 7_000, 100, refine=True),
    "jpeg: many small scans": lambda: scan_bomb(64, 64, 100_000),
    "jpeg: 49 million pixels as coefficients of three colours": lambda: scan_bomb(7_000, 7_000, 1, colours=3),
    "jpeg: 49 million pixels as coefficients of four colours": lambda: scan_bomb(7_000, 7_000, 1, colours=4),
    "jpeg: 65,500 x 65,500": lambda: scan_bomb(65_500, 65_500, 1),
    "jpeg: a million empty segments": lambda: jpeg_with(app(0xE5, b"") * 1_000_000),
    "jpeg: 30 MB of fill bytes": lambda: jpeg_with(b"\xff" * 30_000_000),
    "jpeg: 30 MB of fill bytes and zeros": lambda: jpeg_with(b"\xff" * 30_000_000 + b"\0"),
    "jpeg: 30 MB of zeros": lambda: jpeg_with(bytes(30_000_000)),
    "jpeg: 900 segments of EXIF": lambda: jpeg_with(app(0xE1, b"Exif\0\0" + bytes(65_000)) * 900),
    "jpeg: EXIF of 5,000 entries of 60 kB": lambda: jpeg_with(app(0xE1, exif_bomb(5_000))),
    "jpeg: two frame headers": lambda: jpeg_with(app(0xC0, struct.pack(">BHHB", 8, 9, 9, 1) + b"\x01\x11\0")),
    "jpeg: arithmetic coding": lambda: scan_bomb(7_000, 7_000, 1).replace(b"\xff\xc2", b"\xff\xca"),
    "jpeg: lossless": lambda: scan_bomb(7_000, 7_000, 1).replace(b"\xff\xc2", b"\xff\xc3"),
    "mpo: a directory of 10,000 pictures": lambda: jpeg_with(
        app(0xE2, b"MPF\0II*\0" + struct.pack("<IHHHII", 8, 1, 0xB001, 4, 1, 10_000) + bytes(100))
    ),
    "tiff: a tile of 40,000 x 40,000 behind 10 x 10": lambda: tile_bomb(40_000),
    "tiff: a tile of 9,000 x 9,000 behind 10 x 10": lambda: tile_bomb(9_000),
    "tiff: a million tiles of one pixel": lambda: tiff(
        grey(1_000, 1_000, t322=(3, [1]), t323=(3, [1]), t324=(4, [8] * 1_000_000), t325=(4, [1] * 1_000_000)), b"\0"
    ),
    "tiff: a strip of 49 million pixels": lambda: tiff(
        grey(7_000, 7_000, t279=(4, [len(zeros(49_000_000))])), zeros(49_000_000)
    ),
    "tiff: strips that share 20 MB": lambda: tiff(
        grey(100, 5_000, t278=(3, [1]), t273=(4, [8] * 5_000), t279=(4, [20_000_000] * 5_000)), os.urandom(20_000_000)
    ),
    "tiff: a second directory that is empty": second_directory_empty,
    "tiff: 60,000 directories": lambda: directories(60_000),
    "tiff: a circle of directories": lambda: tiff(grey(10, 10), zlib.compress(bytes(100)).ljust(100), following=108),
    "tiff: 65,535 entries": lambda: b"II*\0" + struct.pack("<IH", 8, 65_535) + struct.pack("<HHII", 700, 1, 700_000, 8) * 65_535,
    "tiff: 100,000 strips of one row": lambda: tiff(
        grey(500, 99_999, t259=(3, [1]), t278=(3, [1]), t273=(4, [8] * 99_999), t279=(4, [0] * 99_999)), bytes(50_000_000)
    ),
    "tiff: a billion values of one field": lambda: tiff(grey(10, 10))[:-8] + bytes(8),
    "tiff: JPEG inside": lambda: tiff(grey(7_000, 7_000, t259=(3, [7])), scan_bomb(7_000, 7_000, 2_000)),
    "webp: a canvas of 16,383 x 16,383": lambda: webp(canvas(16_383, 16_383), (b"ANIM", bytes(6)), frame(8, 8)),
    "webp: a canvas of 7,000 x 7,000": lambda: webp(canvas(7_000, 7_000), (b"ANIM", bytes(6)), frame(8, 8)),
    "webp: a canvas of 4,800 x 4,800": lambda: webp(canvas(4_800, 4_800), (b"ANIM", bytes(6)), frame(8, 8)),
    "webp: a frame larger than its canvas": lambda: webp(canvas(8, 8), (b"ANIM", bytes(6)), frame(4_000, 4_000)),
    "webp: a frame beyond its canvas": lambda: webp(canvas(8, 8), (b"ANIM", bytes(6)), frame(8, 8, x=10_000_000)),
    "webp: a million frames": lambda: webp(canvas(8, 8), (b"ANIM", bytes(6)), *[frame(8, 8)] * 100_000),
    "webp: a million unknown chunks": lambda: webp(canvas(8, 8, 0), *[(b"none", b"")] * 1_000_000),
    "webp: 20 million pixels, lossless": lambda: encoded(Image.new("RGB", (4_500, 4_500)), "WEBP", lossless=True, method=0),
    "webp: 9 million pixels of lossless noise": lambda: webp(
        (b"VP8L", b"\x2f" + struct.pack("<I", 2_999 | 2_999 << 14) + os.urandom(9_000_000))
    ),
    "webp: 65,536 codes": lambda: code_bomb(1_024, long=False),
    "webp: 65,536 long codes": lambda: code_bomb(1_024, long=True),
    "webp: 65,536 long codes for 9 million pixels": lambda: code_bomb(3_000, long=True),
    "webp: 20,000 long codes": lambda: code_bomb(568, long=True),
    "gif: a frame of 60,000 x 60,000 on a screen of 10 x 10": lambda: gif((10, 10), (60_000, 60_000)),
    "gif: a screen of 65,535 x 65,535": lambda: gif((65_535, 65_535), (1, 1)),
    "gif: a screen of 7,000 x 7,000": lambda: gif((7_000, 7_000), (1, 1)),
    "gif: a frame at 60,000": lambda: gif((10, 10), (10, 10), at=60_000),
    "gif: 30 MB of comments": lambda: gif((10, 10), (10, 10), b"!\xfe" + (b"\xff" + b"x" * 255) * 120_000 + b"\0"),
    "gif: 10 million comments of one byte": lambda: gif((10, 10), (10, 10), b"!\xfe" + b"\x01x" * 10_000_000 + b"\0"),
    "gif: 100,000 frames": lambda: gif((10, 10), (10, 10))[:-1] + gif((10, 10), (10, 10))[19:-1] * 100_000 + b";",
    "bmp: 30,000 x 30,000": lambda: bmp(30_000, 30_000),
    "bmp: pixels missing": lambda: bmp(7_000, 7_000),
    "bmp: run lengths of one": lambda: bmp(7_000, 7_000, 8, 1, b"\x01\x05" * 20_000_000),
    "bmp: negative width": lambda: bmp(-10, 10, pixels=bytes(1_000)),
    "bmp: height of -2**31": lambda: bmp(10, -(2**31)),
    "bmp: 49 million pixels of one bit": lambda: bmp(7_000, 7_000, 1, 0, bytes(6_200_000)),
    "bmp: 16 million pixels of 32 bits": lambda: bmp(4_000, 4_000, 32, 0, bytes(64_000_000)),
    "ico: not let in": lambda: encoded(Image.new("RGB", (16, 16)), "ICO"),
}  # fmt: skip


def _peak() -> int:
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(words["VmHWM"].split()[0]) * 1024


def _spent() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _resident() -> int:
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(words["VmRSS"].split()[0]) * 1024


def _read(name: str, data: bytes) -> Outcome:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, started = _resident(), _spent()
    raw = False
    try:
        picture = guard.open_image(data, name="x")
        said = f"{picture.width}x{picture.height} {picture.mode}"
    except guard.Refused as error:
        said = str(error)
        raw = "\n" in said
    except BaseException:
        said, raw = traceback.format_exc(), True
    inside = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # of a process that the guard started
    return Outcome(name, said, raw, round(_spent() - started, 3), max(0, _peak() - before) + len(data) + inside)


def measure(name: str, data: bytes) -> Outcome:
    """Read one picture in a process of its own, under limits (Linux)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (HARD_SECONDS, HARD_SECONDS))
            resource.setrlimit(resource.RLIMIT_AS, (HARD_MEMORY, HARD_MEMORY))
            os.write(writing, json.dumps(asdict(_read(name, data))).encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, _, used = os.wait4(child, 0)
    if not told:
        return Outcome(name, "the process died", True, round(used.ru_utime + used.ru_stime, 3), used.ru_maxrss * 1024)
    return Outcome(**json.loads(told))


def run() -> Iterator[Outcome]:
    """Measure every hostile picture."""
    for name, make in PICTURES.items():
        yield measure(name, make())


def report(outcomes: list[Outcome]) -> str:
    """The counts in words, and a line for each picture that broke the promise."""
    kept = sum(one.passed for one in outcomes)
    slowest, largest = max(one.seconds for one in outcomes), max(one.memory for one in outcomes)
    bad = [f"{one.name}: {one.seconds} s, {one.memory / 1e6:.0f} MB, {one.said}" for one in outcomes if not one.passed]
    counts = f"hostile pictures within {SECONDS:.0f} s and {MEMORY / 1e6:.0f} MB: {kept} of {len(outcomes)}"
    return "\n".join([f"{counts}; most {slowest:.1f} s, {largest / 1e6:.0f} MB", *bad])
