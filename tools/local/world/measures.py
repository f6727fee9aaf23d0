"""Measures of every drawing: its size, the colours of its edge, its main colour. Taken once and shipped.

python -m lensgraph.tools.local.world.measures     # writes data/measures.json again
"""

from __future__ import annotations

import colorsys
import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lensgraph.tools.local.world import renditions
from lensgraph.tools.local.world.entities import DATA

if TYPE_CHECKING:
    from PIL import Image

RGB = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class Measures:
    """Measures of one drawing."""

    width: int
    height: int
    edge: tuple[RGB, ...]
    """Most frequent colours of its outline."""
    colour: str | None
    """The colour word of most of its area. None: no colour clearly dominates."""


@cache
def shipped() -> dict[str, Measures]:
    """`rendition/entity id` -> its measures, from the shipped file."""
    raw = json.loads((DATA / "measures.json").read_text(encoding="utf-8"))
    return {
        key: Measures(width, height, tuple((r, g, b) for r, g, b in edge), colour)
        for key, (width, height, edge, colour) in raw.items()
    }


def colour_word(red: int, green: int, blue: int) -> str:
    """The basic colour word of a pixel."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    degrees = hue * 360
    if value < 0.2:
        return "black"
    if saturation < 0.14:
        return "white" if value > 0.88 else "grey" if value < 0.8 else "light"
    if degrees < 14 or degrees >= 340:
        return "pink" if saturation < 0.5 and value > 0.75 else "red"
    if degrees < 40:
        return "brown" if value < 0.6 else "orange"
    if degrees < 68:
        return "yellow" if value > 0.6 else "brown"
    if degrees < 165:
        return "green"
    if degrees < 255:
        return "blue"
    return "purple" if degrees < 300 else "pink"


def main_colour(image: Image.Image) -> str | None:
    """The colour word of at least 55 % of the visible area, if the next one has at most half as much."""
    small = image.resize((40, 40))
    words = Counter(
        colour_word(r, g, b)
        for r, g, b, a in zip(*(list(channel.get_flattened_data()) for channel in small.split()), strict=True)
        if a > 128
    )
    total = sum(words.values())
    (word, count), *rest = words.most_common(2)
    if word == "light" or count < 0.55 * total or (rest and rest[0][1] > 0.5 * count):
        return None
    return word


def edge_colours(image: Image.Image) -> list[RGB]:
    """The most frequent colours of the outline, coarsely quantised. A background must differ from them."""
    import numpy as np

    data = np.asarray(image.resize((64, 64)))
    solid = np.pad(data[..., 3] > 128, 1)
    inner = solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    outline = data[solid[1:-1, 1:-1] & ~inner][:, :3] // 32 * 32 + 16
    colours, counts = np.unique(outline, axis=0, return_counts=True)
    order = np.argsort(-counts)
    keep = [i for i in order if counts[i] >= 0.06 * counts.sum()][:6] or list(order[:1])
    return [(int(r), int(g), int(b)) for r, g, b in colours[keep]]


def write() -> None:
    """Write `data/measures.json` for every shipped drawing."""
    rows: dict[str, list[object]] = {}
    for rendition in renditions.RENDITIONS:
        for entity_id in renditions.encoded(rendition):
            image = renditions.load_rendition(entity_id, rendition)
            rows[f"{rendition}/{entity_id}"] = [*image.size, edge_colours(image), main_colour(image)]
    lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(row, separators=(',', ':'))}" for key, row in rows.items())
    (DATA / "measures.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
