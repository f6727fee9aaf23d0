"""How far apart the sketches of pictures are: the measurement behind `cache_key.NEAR`.

Two questions about the embedded world's drawings: how close do two different ones come, and how far from itself does one
move when it is saved again? Drawings of the same entity are not different here; equal pixels cannot be told apart at all.
"""

from __future__ import annotations

import io
import statistics
from collections import defaultdict
from dataclasses import dataclass

from PIL import Image

from tools import guard
from tools.cache_key import NEAR, sketch
from tools.local.world import pictures

SAVINGS: dict[str, tuple[str, int]] = {
    "JPEG 92": ("JPEG", 92), "JPEG 85": ("JPEG", 85), "JPEG 75": ("JPEG", 75), "JPEG 50": ("JPEG", 50), "WebP 80": ("WEBP", 80),
}  # fmt: skip
"""Ways to save a picture again: format and quality."""


@dataclass(frozen=True)
class Measured:
    """What was found."""

    drawings: int
    pairs: int
    """Pairs of drawings of one size and of different entities that were compared."""
    equal: int
    """Of these, pairs whose pixels are equal."""
    closest: int
    """The smallest difference between two that are not."""
    closest_pair: tuple[str, str]
    merged: int
    """Pairs that would count as nearly equal although they are different."""
    saved_again: dict[str, dict[str, float]]
    """For each way to save a picture again: the median and the largest difference, and the share within `NEAR`."""


def measure(every: int = 8) -> Measured:
    """Compare all drawings of one size with each other, and every n-th with itself saved again."""
    import numpy as np

    drawn = [
        (entity, rendition, guard.to_rgb(pictures.load(entity, rendition)))
        for rendition in pictures.RENDITIONS
        for entity in pictures.encoded(rendition)
    ]
    by_size = defaultdict(list)
    for entity, rendition, image in drawn:
        by_size[image.size].append((entity, rendition, sketch(image), image.tobytes()))
    pairs = equal = merged = 0
    closest, closest_pair = 256, ("", "")
    for group in by_size.values():
        sketches = np.stack([np.frombuffer(one[2], np.uint8) for one in group]).astype(np.int16)
        entities = np.array([one[0] for one in group])
        for i in range(len(group) - 1):
            apart = np.abs(sketches[i + 1 :] - sketches[i]).max(1)
            other = entities[i + 1 :] != entities[i]
            pairs += int(other.sum())
            for j in np.nonzero(other & (apart <= max(NEAR, min(closest, 64))))[0]:
                one, two = group[i], group[i + 1 + int(j)]
                if one[3] == two[3]:
                    equal += 1
                    continue
                merged += int(apart[j]) <= NEAR
                if apart[j] < closest:
                    closest, closest_pair = int(apart[j]), (f"{one[0]} {one[1]}", f"{two[0]} {two[1]}")
    return Measured(len(drawn), pairs, equal, closest, closest_pair, merged, _saved_again(drawn[::every]))


def _saved_again(drawn: list[tuple[str, str, Image.Image]]) -> dict[str, dict[str, float]]:
    import numpy as np

    found = {}
    for name, (kind, quality) in SAVINGS.items():
        apart = []
        for _, _, image in drawn:
            buffer = io.BytesIO()
            image.save(buffer, kind, quality=quality)
            again = guard.open_image(buffer.getvalue())
            one, two = (np.frombuffer(sketch(each), np.uint8).astype(np.int16) for each in (image, again))
            apart.append(int(np.abs(one - two).max()))
        within = sum(value <= NEAR for value in apart) / len(apart)
        found[name] = {
            "median": statistics.median(apart),
            "largest": max(apart),
            "within": within,
            "pictures": len(apart),
        }
    return found


def report(measured: Measured) -> str:
    """The measurement in words."""
    one, two = measured.closest_pair
    lines = [
        f"{measured.drawings} drawings, {measured.pairs:,} pairs of one size and of different entities",
        f"equal pixels: {measured.equal} pairs; closest of the others: {measured.closest} of 255 ({one}, {two})",
        f"merged at NEAR={NEAR}: {measured.merged}",
    ]
    for name, row in measured.saved_again.items():
        lines.append(
            f"saved again as {name}: median {row['median']:g}, largest {row['largest']:g}, "
            f"{row['within']:.1%} of {row['pictures']:.0f} recognised"
        )
    return "\n".join(lines)
