"""Pictures that questions are asked about: one to six drawings on a canvas, described before they are drawn.

Invariant: a scene is a small value (who stands where, on which background) that renders to the same pixels every time;
everything a gold answer needs (counts, places, colours) is read from that value, never from the rendered picture. Items
never overlap, keep at least `GAP` pixels between them, and stand on a background that differs from their edges.
"""

from __future__ import annotations

import colorsys
import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from lensgraph.tools.local.world import pictures
from lensgraph.tools.local.world.entities import DATA

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

GAP = 12
"""Smallest distance between two items and to the edge of the canvas, in pixels: more than a region proposal merges."""

RGB = tuple[int, int, int]

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
TEXTURES: tuple[Texture, ...] = ("plain", "plain", "plain", "gradient", "noise", "checks", "stripes")

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
"""Number of items -> (width, height, columns, rows). Sides are multiples of 28, one patch of the policy's eye."""


@dataclass(frozen=True)
class Pixels:
    """What was measured once on a drawing; see `measure`."""

    width: int
    height: int
    edge: tuple[RGB, ...]
    """Most frequent colours of its outline."""
    colour: str | None
    """The colour word of most of its area. None: no colour clearly dominates."""


@cache
def pixels() -> dict[str, Pixels]:
    """`rendition/entity id` -> its measures, from the shipped file."""
    raw = json.loads((DATA / "pixels.json").read_text(encoding="utf-8"))
    return {
        key: Pixels(width, height, tuple((r, g, b) for r, g, b in edge), colour)
        for key, (width, height, edge, colour) in raw.items()
    }


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

        `drawings`: what stands in an item's box instead of its own drawing, RGBA by the item's place in `items`. The
        background was chosen for the item's own.
        """
        from PIL import Image, ImageEnhance

        canvas = Image.fromarray(self._background())
        chance = random.Random(self.seed)
        for place, item in enumerate(self.items):
            drawing = (drawings or {}).get(place) or pictures.load(item.entity_id, item.rendition)
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
    """The scene that `dataclasses.asdict` took apart, also after a trip through JSON."""
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
        # Who shows one thing fills the frame with it.
        alone = pixels()[f"{cast[0][1]}/{cast[0][0]}"]
        ratio = alone.width / alone.height
        nearest = sorted(canvases, key=lambda c: abs(math.log(c[0] / c[1] / ratio)))
        canvases = tuple(nearest[:5])
    width, height, columns, rows = rng.choice(canvases)
    background, shade = choose_background([pixels()[f"{rendition}/{entity}"] for entity, rendition in cast], rng)
    cells = list(range(columns * rows))
    # five items on a grid of six leave one cell empty, never a whole row
    while len(cells) > len(cast):
        cells.remove(rng.choice(cells[1:]))
    cell_w, cell_h = width / columns, height / rows
    items = []
    for cell, (entity, rendition) in zip(cells, cast, strict=True):
        measured = pixels()[f"{rendition}/{entity}"]
        room_w, room_h = cell_w - 2 * GAP, cell_h - 2 * GAP
        fit = min(room_w / measured.width, room_h / measured.height) * rng.uniform(*scale)
        w, h = max(16, round(measured.width * fit)), max(16, round(measured.height * fit))
        left = round((cell % columns) * cell_w + GAP + rng.uniform(0, max(0.0, room_w - w)))
        top = round((cell // columns) * cell_h + GAP + rng.uniform(0, max(0.0, room_h - h)))
        items.append(Item(entity, rendition, (left, top, left + w, top + h)))
    texture = rng.choice(TEXTURES)
    return Scene(width, height, columns, rows, background, shade, texture, tuple(items), rng.getrandbits(32), augment)


def choose_background(cast: list[Pixels], rng: random.Random) -> tuple[str, RGB]:
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


# --- expressions that single out one item -----------------------------------------------------------------------

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
APART = 20
"""Two items are left and right of each other only if their centres are this many pixels apart."""


def targets(scene: Scene, index: int) -> list[str]:
    """Every expression that means item `index` and no other; with one item there is nothing to single out."""
    item = scene.items[index]
    nouns = ["item", "thing", "picture"]
    found: list[str] = []
    for noun in [*nouns, *(["flag"] if item.is_flag else [])]:
        others = [o for o in scene.items if noun != "flag" or o.is_flag]
        if len(others) == 1:
            if noun == "flag":
                found += ["the flag", "the only flag"]
            continue
        found += _by_order(item, others, noun, 0, ("left", "right"), ("leftmost", "rightmost"))
        if scene.rows > 1 and scene.columns == 1:
            found += _by_order(item, others, noun, 1, ("top", "bottom"), ("topmost", "bottommost"))
        if scene.rows > 1 and scene.columns > 1 and noun != "flag":
            found += _corner(scene, item, noun)
        found += _by_size(item, others, noun)
    if item.is_flag:
        found += _by_colour(scene, item)
    return found


def _by_order(
    item: Item, others: list[Item], noun: str, axis: int, sides: tuple[str, str], extremes: tuple[str, str]
) -> list[str]:
    places = sorted(o.centre[axis] for o in others)
    if any(b - a < APART for a, b in pairwise(places)):
        return []
    rank, count = places.index(item.centre[axis]), len(places)
    first, last = sides
    found = [
        f"the {ORDINALS[rank]} {noun} from the {first}",
        f"the {ORDINALS[count - 1 - rank]} {noun} from the {last}",
    ]
    if rank == 0:
        found += [
            f"the {extremes[0]} {noun}",
            f"the {noun} on the far {first}" if axis == 0 else f"the {noun} at the top",
        ]
    if rank == count - 1:
        found += [
            f"the {extremes[1]} {noun}",
            f"the {noun} on the far {last}" if axis == 0 else f"the {noun} at the bottom",
        ]
    if count == 3 and rank == 1:
        found.append(f"the {noun} in the middle")
    return found


def _corner(scene: Scene, item: Item, noun: str) -> list[str]:
    x, y = item.centre
    column, row = int(x * scene.columns / scene.width), int(y * scene.rows / scene.height)
    if column not in (0, scene.columns - 1) or row not in (0, scene.rows - 1):
        return []
    place = f"{'top' if row == 0 else 'bottom'} {'left' if column == 0 else 'right'}"
    return [f"the {noun} in the {place} corner", f"the {place} {noun}", f"the {noun} at the {place}"]


def _by_size(item: Item, others: list[Item], noun: str) -> list[str]:
    rest = [o.area for o in others if o is not item]
    if item.area > 1.5 * max(rest):
        return [f"the largest {noun}", f"the biggest {noun}"]
    if item.area * 1.5 < min(rest):
        return [f"the smallest {noun}"]
    return []


def _by_colour(scene: Scene, item: Item) -> list[str]:
    colours = [pixels()[f"{o.rendition}/{o.entity_id}"].colour for o in scene.items if o.is_flag]
    own = pixels()[f"{item.rendition}/{item.entity_id}"].colour
    # A flag without a main colour could still look "mostly red" to somebody.
    if own is None or None in colours or colours.count(own) != 1 or len(colours) < 2:
        return []
    return [f"the mostly {own} flag", f"the {own} flag"]


# --- measuring, once, when the data are built -------------------------------------------------------------------


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
    """The most frequent colours of the outline, coarsely: what a background must differ from."""
    import numpy as np

    data = np.asarray(image.resize((64, 64)))
    solid = np.pad(data[..., 3] > 128, 1)
    inner = solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    outline = data[solid[1:-1, 1:-1] & ~inner][:, :3] // 32 * 32 + 16
    colours, counts = np.unique(outline, axis=0, return_counts=True)
    order = np.argsort(-counts)
    keep = [i for i in order if counts[i] >= 0.06 * counts.sum()][:6] or list(order[:1])
    return [(int(r), int(g), int(b)) for r, g, b in colours[keep]]


def measure() -> None:
    """Write `data/pixels.json` for every shipped drawing."""
    rows: dict[str, list[object]] = {}
    for rendition in pictures.RENDITIONS:
        for entity_id in pictures.encoded(rendition):
            image = pictures.load(entity_id, rendition)
            rows[f"{rendition}/{entity_id}"] = [*image.size, edge_colours(image), main_colour(image)]
    lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(row, separators=(',', ':'))}" for key, row in rows.items())
    (DATA / "pixels.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    measure()
