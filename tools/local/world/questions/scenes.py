"""Pictures that questions are asked about: one to six drawings on a canvas, described before they are drawn.

Invariant: a scene is a small value (items, their boxes, the background) that renders to the same pixels every time;
everything a gold answer needs (counts, places, colours) is read from that value, never from the rendered picture. Items
never overlap, keep at least `GAP` pixels between them, and stand on a background that differs from their edges.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lensgraph.tools.local.world import measures, renditions
from lensgraph.tools.local.world.measures import RGB, Measures

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

GAP = 12
"""Smallest distance between two items and to the edge of the canvas, in pixels: more than a region proposal merges."""

BACKGROUNDS: dict[str, tuple[RGB, ...]] = {
    "white": ((255, 255, 255), (250, 250, 247)),
    "black": ((12, 12, 14), (24, 24, 24)),
    "grey": ((128, 128, 130), (168, 170, 172)),
    "red": ((196, 40, 40), (176, 30, 46)),
    "orange": ((240, 140, 30), (232, 120, 24)),
    "yellow": ((248, 222, 80), (244, 210, 50)),
    "green": ((60, 140, 70), (110, 170, 90)),
    "blue": ((50, 90, 180), (110, 160, 220)),
    "purple": ((112, 60, 150), (140, 90, 180)),
    "pink": ((244, 170, 196), (236, 140, 176)),
    "brown": ((120, 80, 46), (98, 66, 40)),
}
"""Colour word -> the shades that a background of that name has."""

Texture = Literal["plain", "gradient", "noise", "checks", "stripes"]
"""Fine structure of a background."""
TEXTURES: tuple[Texture, ...] = ("plain", "plain", "plain", "gradient", "noise", "checks", "stripes")
"""Textures to draw from; plain ones are the most common."""

CANVASES: dict[int, tuple[tuple[int, int, int, int], ...]] = {
    1: (
        (140, 140, 1, 1), (168, 168, 1, 1), (196, 196, 1, 1), (224, 224, 1, 1), (168, 140, 1, 1), (196, 140, 1, 1),
        (224, 168, 1, 1), (252, 196, 1, 1), (224, 196, 1, 1), (140, 168, 1, 1), (168, 224, 1, 1), (196, 224, 1, 1),
    ),
    2: ((280, 168, 2, 1), (252, 140, 2, 1), (280, 196, 2, 1), (168, 280, 1, 2)),
    3: ((336, 140, 3, 1), (308, 168, 3, 1), (336, 168, 3, 1), (140, 336, 1, 3)),
    4: ((252, 224, 2, 2), (280, 224, 2, 2), (392, 140, 4, 1), (224, 224, 2, 2)),
    5: ((336, 224, 3, 2), (308, 224, 3, 2), (448, 112, 5, 1)),
    6: ((336, 224, 3, 2), (308, 224, 3, 2), (336, 252, 3, 2)),
}  # fmt: skip
"""Number of items -> (width, height, columns, rows). Sides are multiples of 28 pixels, the side of one token of the
policy's vision tower."""


@dataclass(frozen=True)
class Item:
    """One drawing in a scene."""

    entity_id: str
    rendition: str
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels of the canvas; the drawing fills it."""

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> int:
        """Pixels of the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def is_flag(self) -> bool:
        """Whether the drawing is a flag."""
        return self.entity_id.startswith("flag:")


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn."""

    width: int
    height: int
    columns: int
    rows: int
    background: str
    """Key of `BACKGROUNDS`."""
    shade: RGB
    texture: Texture
    items: tuple[Item, ...]
    """Row by row, left to right."""
    seed: int
    """Decides the texture's noise and the augmentation."""
    augment: bool = False
    """True: brightness, contrast and saturation of the items are shaken. Training pictures only."""

    def render(self, drawings: Mapping[int, Image.Image] | None = None) -> Image.Image:
        """The picture, RGB; always the same pixels for the same scene.

        `drawings`: RGBA drawings that replace an item's own, by the item's place in `items`. The background was chosen
        for the item's own.
        """
        from PIL import Image, ImageEnhance

        canvas = Image.fromarray(self._background())
        chance = random.Random(self.seed)
        for place, item in enumerate(self.items):
            drawing = (drawings or {}).get(place) or renditions.load_rendition(item.entity_id, item.rendition)
            size = (item.box[2] - item.box[0], item.box[3] - item.box[1])
            drawing = drawing.resize(size, Image.Resampling.LANCZOS)
            if self.augment:
                alpha = drawing.getchannel("A")
                colours = drawing.convert("RGB")
                for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                    colours = enhancer(colours).enhance(chance.uniform(0.8, 1.2))
                drawing = colours.convert("RGBA")
                drawing.putalpha(alpha)
            canvas.paste(drawing, item.box[:2], drawing)
        return canvas

    def _background(self) -> np.ndarray:
        import numpy as np

        field = np.zeros((self.height, self.width, 1), dtype=np.float32)
        y, x = np.mgrid[: self.height, : self.width].astype(np.float32)
        if self.texture == "gradient":
            field[..., 0] = 14 * (x / self.width + y / self.height - 1)
        elif self.texture == "noise":
            field[..., 0] = np.random.default_rng(self.seed).normal(0, 3, (self.height, self.width))
        elif self.texture == "checks":
            field[..., 0] = 5 * (((x // 14) + (y // 14)) % 2) - 2
        elif self.texture == "stripes":
            field[..., 0] = 5 * ((y // 10) % 2) - 2
        shade = np.asarray(self.shade, dtype=np.float32)
        return np.clip(shade + field, 0, 255).astype(np.uint8)


def from_dict(record: dict[str, Any]) -> Scene:
    """The scene of a record that `dataclasses.asdict` made, also after a trip through JSON."""
    items = tuple(Item(i["entity_id"], i["rendition"], tuple(i["box"])) for i in record["items"])
    return Scene(**{**record, "shade": tuple(record["shade"]), "items": items})


def compose(
    cast: list[tuple[str, str]], rng: random.Random, *, augment: bool = False, scale: tuple[float, float] = (0.72, 1.0)
) -> Scene:
    """Place drawings (entity id, rendition), in reading order, one in each cell of a grid.

    `scale` is the range of an item's size as a share of what its cell allows.
    """
    canvases = CANVASES[len(cast)]
    if len(cast) == 1:
        # A person who shows one thing fills the frame with it.
        alone = measures.shipped()[f"{cast[0][1]}/{cast[0][0]}"]
        ratio = alone.width / alone.height
        nearest = sorted(canvases, key=lambda c: abs(math.log(c[0] / c[1] / ratio)))
        canvases = tuple(nearest[:5])
    width, height, columns, rows = rng.choice(canvases)
    background, shade = choose_background(
        [measures.shipped()[f"{rendition}/{entity}"] for entity, rendition in cast], rng
    )
    cells = list(range(columns * rows))
    # five items on a grid of six leave one cell empty, never a whole row
    while len(cells) > len(cast):
        cells.remove(rng.choice(cells[1:]))
    cell_w, cell_h = width / columns, height / rows
    items = []
    for cell, (entity, rendition) in zip(cells, cast, strict=True):
        measured = measures.shipped()[f"{rendition}/{entity}"]
        room_w, room_h = cell_w - 2 * GAP, cell_h - 2 * GAP
        fit = min(room_w / measured.width, room_h / measured.height) * rng.uniform(*scale)
        w, h = max(16, round(measured.width * fit)), max(16, round(measured.height * fit))
        left = round((cell % columns) * cell_w + GAP + rng.uniform(0, max(0.0, room_w - w)))
        top = round((cell // columns) * cell_h + GAP + rng.uniform(0, max(0.0, room_h - h)))
        items.append(Item(entity, rendition, (left, top, left + w, top + h)))
    texture = rng.choice(TEXTURES)
    return Scene(width, height, columns, rows, background, shade, texture, tuple(items), rng.getrandbits(32), augment)


def choose_background(cast: list[Measures], rng: random.Random) -> tuple[str, RGB]:
    """A background whose shade is far from every item's edge; the farthest one if none is far enough."""
    shades = [(name, shade) for name, row in BACKGROUNDS.items() for shade in row]
    rng.shuffle(shades)

    def distance(shade: RGB) -> float:
        return min((_distance(shade, edge) for item in cast for edge in item.edge), default=255.0)

    for name, shade in shades:
        if distance(shade) > 90:
            return name, shade
    return max(shades, key=lambda row: distance(row[1]))


def _distance(a: RGB, b: RGB) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))) ** 0.5
