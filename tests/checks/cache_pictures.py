"""The measurement behind `cache.key.NEAR`: distances between the sketches of pictures.

It answers three questions. How close do two different pictures of the embedded world come, be they drawings, scenes or crops
of scenes? How far from itself does a picture move when it is saved or scaled again? How small may print be before a page
with one digit changed counts as the same page? Drawings of one entity, and equal pixels, do not count as different.
"""

from __future__ import annotations

import io
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from lensgraph.tools import guard
from lensgraph.tools.cache.key import NEAR, SCALED, difference, same_shape, sketch
from lensgraph.tools.local.world import renditions
from lensgraph.tools.local.world.questions import splits

SCENES = 150
"""Tasks of the test split whose pictures are compared, with the crop of every item on them."""
PRINT_SIZES = (10, 14, 20)
"""Heights of the print that is tried, in pixels."""
PRINT_PAGES = 20
"""Pages of each height."""


@dataclass(frozen=True)
class Measured:
    """Results of the measurement."""

    pictures: int
    """Drawings, scenes and crops."""
    pairs: int
    """Pairs that are of one shape, nearly of one size, and show different things."""
    equal: int
    """Of these, pairs whose pixels are equal."""
    closest: int
    """The smallest difference between two whose pixels are not equal."""
    closest_pair: tuple[str, str]
    merged: int
    """Pairs that would count as nearly equal although they are different."""
    saved_again: dict[str, dict[str, float]]
    """For each way to save a picture again: the median and the largest difference, and the share that is recognised."""
    digit_changed: dict[str, float]
    """For each height of print: the share of pages with one digit changed that would count as the same page."""


@dataclass(frozen=True)
class _Shown:
    """A picture and what it shows."""

    what: str
    where: str
    image: Image.Image


def _saved(kind: str, quality: int) -> Callable[[Image.Image], Image.Image]:
    def save(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=quality)
        return guard.open_image(buffer.getvalue())

    return save


def _scaled(share: float, how: Image.Resampling) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * share), round(image.height * share)), how)


AGAIN: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 92": _saved("JPEG", 92), "JPEG 85": _saved("JPEG", 85), "JPEG 75": _saved("JPEG", 75), "JPEG 50": _saved("JPEG", 50),
    "WebP 80": _saved("WEBP", 80), "98 %": _scaled(0.98, Image.Resampling.LANCZOS),
    "102 %": _scaled(1.02, Image.Resampling.BICUBIC),
    "98 % as JPEG 85": lambda image: _saved("JPEG", 85)(_scaled(0.98, Image.Resampling.LANCZOS)(image)),
}  # fmt: skip
"""Ways to save a picture again."""


def measure(every: int = 8) -> Measured:
    """Compare all pictures with each other, and every n-th with itself saved again."""
    import numpy as np

    shown = [*_drawings(), *_scenes()]
    by_cells = defaultdict(list)
    for one in shown:
        made = sketch(one.image)
        assert made is not None  # the world draws nothing so large
        by_cells[len(made)].append((one, made))
    pairs = equal = merged = 0
    closest, closest_pair = 256, ("", "")
    for group in by_cells.values():
        sketches = np.stack([np.frombuffer(made, np.uint8) for _, made in group]).astype(np.int16)
        # A few cells rule most pairs out at a small part of the cost.
        few = np.ascontiguousarray(sketches[:, :: max(1, sketches.shape[1] // 64)])
        sizes = np.array([one.image.size for one, _ in group])
        what = np.array([one.what for one, _ in group])
        for i in range(len(group) - 1):
            rest = slice(i + 1, None)
            alike = (np.abs(sizes[rest] - sizes[i]) <= SCALED * np.maximum(sizes[rest], sizes[i]) + 1).all(1)
            cross = np.abs(sizes[rest, 0] * sizes[i, 1] - sizes[i, 0] * sizes[rest, 1])
            alike &= (cross <= np.maximum(sizes[rest].max(1), sizes[i].max())) & (what[rest] != what[i])
            pairs += int(alike.sum())
            alike &= np.abs(few[rest] - few[i]).max(1) <= max(NEAR, min(closest, 64))
            for j in np.nonzero(alike)[0] + i + 1:
                one, two = group[i][0], group[j][0]
                if one.image.size == two.image.size and one.image.tobytes() == two.image.tobytes():
                    equal += 1
                    continue
                apart = int(np.abs(sketches[j] - sketches[i]).max())
                merged += apart <= NEAR
                if apart < closest:
                    closest, closest_pair = apart, (f"{one.what} {one.where}", f"{two.what} {two.where}")
    again = _saved_again([one.image for one in shown[::every]])
    changed = {f"{height} pixels": _digit_changed(height) for height in PRINT_SIZES}
    return Measured(len(shown), pairs, equal, closest, closest_pair, merged, again, changed)


def _drawings() -> Iterator[_Shown]:
    for rendition in renditions.RENDITIONS:
        for entity in renditions.encoded(rendition):
            yield _Shown(entity, rendition, guard.to_rgb(renditions.load_rendition(entity, rendition)))


def _scenes() -> Iterator[_Shown]:
    for task in splits.load_split("test", limit=SCENES):
        scene = task.render()
        yield _Shown(task.id, "scene", scene)
        for number, item in enumerate(task.items, start=1):
            yield _Shown(item.entity_id, f"{task.id} item {number}", scene.crop(item.box))


def _apart(one: Image.Image, other: Image.Image) -> int:
    """The difference of two pictures as the cache sees them; 255 if they are of different shapes."""
    first, second = sketch(one), sketch(other)
    if first is None or second is None or not same_shape(one.size, other.size):
        return 255
    return difference(first, second)


def _saved_again(images: list[Image.Image]) -> dict[str, dict[str, float]]:
    found = {}
    for name, save in AGAIN.items():
        apart = [_apart(image, save(image)) for image in images]
        found[name] = {
            "median": statistics.median(apart),
            "largest": max(apart),
            "within": sum(value <= NEAR for value in apart) / len(apart),
            "pictures": len(apart),
        }
    return found


def _digit_changed(height: int) -> float:
    """The share of pages of print of this height that count as the same page with one digit changed."""
    chance = random.Random(height)
    merged = 0
    for _ in range(PRINT_PAGES):
        lines = ["".join(chance.choices("0123456789 ", k=600 // height)) for _ in range(460 // (height + 4))]
        row, place = chance.randrange(len(lines)), chance.randrange(600 // height)
        other = chance.choice([digit for digit in "0123456789" if digit != lines[row][place]])
        changed = [*lines[:row], lines[row][:place] + other + lines[row][place + 1 :], *lines[row + 1 :]]
        merged += _apart(_printed(lines, height), _printed(changed, height)) <= NEAR
    return merged / PRINT_PAGES


def _printed(lines: list[str], height: int) -> Image.Image:
    page = Image.new("RGB", (640, 480), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=height)
    for number, text in enumerate(lines):
        pen.text((6, 6 + number * (height + 4)), text, fill=(20, 20, 20), font=font)
    return page


def report(measured: Measured) -> str:
    """The measurement in words."""
    one, two = measured.closest_pair
    lines = [
        f"{measured.pictures} drawings, scenes and crops, {measured.pairs:,} pairs of one shape that show different things",
        f"equal pixels: {measured.equal} pairs; closest of the others: {measured.closest} of 255 ({one}, {two})",
        f"merged at NEAR={NEAR}: {measured.merged}",
    ]
    for name, row in measured.saved_again.items():
        lines.append(
            f"saved again as {name}: median {row['median']:g}, largest {row['largest']:g}, "
            f"{row['within']:.1%} of {row['pictures']:.0f} recognised"
        )
    for name, share in measured.digit_changed.items():
        lines.append(f"print of {name}, one digit changed: {share:.0%} of {PRINT_PAGES} pages count as the same")
    return "\n".join(lines)
