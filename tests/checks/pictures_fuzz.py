"""Honest pictures of every format, mutated: `python tests/checks pictures-fuzz --count 5000 --seed 0`.

The guard must read or refuse each; anything else that it raises is a raw exception. The same seed gives the same files.
"""

from __future__ import annotations

import io
import random
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from PIL import Image, TiffImagePlugin

from lensgraph.tools import guard

EXTREMES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers that decoders trip over."""


@dataclass
class Fuzzed:
    """Counts of one run."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    """CPU seconds of the slowest file."""
    raw: list[str] = field(default_factory=list)
    """Traceback of every exception that is not `Refused`, or a refusal of several lines, with its format and number."""

    def report(self) -> str:
        """The counts in words, and the raw exceptions."""
        count = self.read + self.refused + len(self.raw)
        counts = (
            f"{count:,} mutated pictures: {self.read:,} read, {self.refused:,} refused, {len(self.raw)} raw exceptions"
        )
        return "\n".join([f"{counts}; slowest {self.slowest:.2f} s of CPU", *self.raw])


def honest() -> dict[str, bytes]:
    """Small honest pictures by name: every format, most modes, several frames, metadata."""
    drawn = Image.radial_gradient("L").resize((40, 30))
    colour = Image.merge("RGB", (drawn, drawn.rotate(90), drawn.rotate(180)))
    alpha = colour.convert("RGBA")
    alpha.putalpha(drawn)
    deep = drawn.convert("I").point(lambda value: value * 257).convert("I;16")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    frames = [colour.rotate(90 * turn) for turn in range(3)]
    more = {"save_all": True, "append_images": frames[1:]}
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png RGB": (colour, "PNG", {"exif": exif}),
        "png RGBA": (alpha, "PNG", {}),
        "png P": (colour.quantize(16), "PNG", {"transparency": 1}),
        "png 16 bits": (deep, "PNG", {}),
        "png 1 bit": (drawn.convert("1"), "PNG", {}),
        "png LA": (alpha.convert("LA"), "PNG", {}),
        "png animated": (colour, "PNG", more),
        "jpeg": (colour, "JPEG", {"exif": exif}),
        "jpeg grey": (drawn, "JPEG", {}),
        "jpeg progressive": (colour, "JPEG", {"progressive": True}),
        "jpeg CMYK": (colour.convert("CMYK"), "JPEG", {}),
        "jpeg 4:4:4": (colour, "JPEG", {"subsampling": 0, "quality": 95}),
        "mpo": (colour, "MPO", more),
        "webp": (colour, "WEBP", {"exif": exif}),
        "webp alpha": (alpha, "WEBP", {}),
        "webp lossless": (alpha, "WEBP", {"lossless": True}),
        "webp animated": (colour, "WEBP", more),
        "gif": (colour.quantize(16), "GIF", {}),
        "gif animated": (colour, "GIF", more),
        "bmp": (colour, "BMP", {}),
        "bmp P": (colour.quantize(16), "BMP", {}),
        "bmp 1 bit": (drawn.convert("1"), "BMP", {}),
        "tiff": (colour, "TIFF", {}),
        "tiff LZW": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "tiff fax": (drawn.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff deflate": (alpha, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff PackBits": (drawn, "TIFF", {"compression": "packbits"}),
        "tiff 16 bits": (deep, "TIFF", {}),
        "tiff float": (drawn.convert("F"), "TIFF", {}),
        "tiff CMYK": (colour.convert("CMYK"), "TIFF", {}),
        "tiff pages": (colour, "TIFF", more),
        "tiff P": (colour.quantize(16), "TIFF", {}),
        "tiff turned": (colour, "TIFF", {"tiffinfo": _turned()}),
    }
    files = {}
    for name, (
        picture,
        format,
        options,
    ) in kinds.items():  # copies, because an encoder leaves its settings in the picture
        buffer = io.BytesIO()
        copies = {
            key: [one.copy() for one in value] if isinstance(value, list) else value for key, value in options.items()
        }
        picture.copy().save(buffer, format, **copies)  # type: ignore[arg-type]
        files[name] = buffer.getvalue()
    return files


def _turned() -> TiffImagePlugin.ImageFileDirectory_v2:
    fields = TiffImagePlugin.ImageFileDirectory_v2()
    fields[274] = 6
    return fields


def mutate(data: bytes, chance: random.Random) -> bytes:
    """The file with one to six of its places changed."""
    body = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        if not body:
            break
        at = chance.randrange(min(len(body), 200)) if chance.random() < 0.6 else chance.randrange(len(body))
        chance.choice(_CHANGES)(body, at, chance)
    return bytes(body)


def _flip(body: bytearray, at: int, chance: random.Random) -> None:
    body[at] ^= 1 << chance.randrange(8)


def _byte(body: bytearray, at: int, chance: random.Random) -> None:
    body[at] = chance.randrange(256)


def _number(body: bytearray, at: int, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4))
    body[at : at + size] = (chance.choice(EXTREMES) % 256**size).to_bytes(size, chance.choice(("big", "little")))


def _cut(body: bytearray, at: int, chance: random.Random) -> None:
    del body[at:]


def _remove(body: bytearray, at: int, chance: random.Random) -> None:
    del body[at : at + chance.randint(1, 40)]


def _repeat(body: bytearray, at: int, chance: random.Random) -> None:
    body[at:at] = body[at : at + chance.randint(1, 60)] * chance.randint(1, 50)


def _swap(body: bytearray, at: int, chance: random.Random) -> None:
    other, size = chance.randrange(len(body)), chance.randint(1, 16)
    body[at : at + size] = body[other : other + size]


_CHANGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip, _flip, _byte, _byte, _number, _number, _number, _cut, _remove, _repeat, _swap,
)  # fmt: skip


def files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutated files, each format in turn."""
    chance = random.Random(seed)
    kinds = list(honest().items())
    for number in range(count):
        name, data = kinds[number % len(kinds)]
        yield f"{name} {number}", mutate(data, chance)


def run(count: int, seed: int) -> Fuzzed:
    """Read all of them."""
    found = Fuzzed()
    for name, data in files(count, seed):
        started = time.process_time()
        try:
            guard.open_image(data, name="x")
            found.read += 1
        except guard.Refused as error:
            if "\n" in str(error):
                found.raw.append(f"{name}: {error}")
            else:
                found.refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found.raw.append(f"{name}: {traceback.format_exc()}")
        found.slowest = max(found.slowest, time.process_time() - started)
    return found
