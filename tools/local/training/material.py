"""The pictures that the embedder may learn from, by class, several artists each.

Invariant: no class is a validation or test entity of the world or an emoji left out of it as a double, and no
picture is from an artist that test questions are asked with (`FORBIDDEN`). Classes: the world's train entities; every
emoji outside the world's groups (people, symbols, smileys); and invented flags, each painted by two invented artists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lensgraph.tools.local.world import entities, renditions
from lensgraph.tools.local.world.making.make_world import GROUPS, unicode_name
from lensgraph.tools.local.world.making.sources import EMOJI, Emoji, Iconify, Package, Studio

FORBIDDEN = ("flagpack", "fluent_3d", "circle_flags")
"""Artists that test questions show: never learned from."""
ALLOWED = tuple(r for r in renditions.RENDITIONS if r not in FORBIDDEN)
"""Artists of the world that may be learned from."""
EXTRA_SETS = {
    # two more artists, in training only: they are not shipped and not indexed
    "noto_v1": ("@iconify-json/noto-v1", "1.2.5"),  # Apache-2.0
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),  # Apache-2.0
}
"""Two more artists, in training only -> npm package and version."""
INVENTED_FLAGS = 800
"""Number of invented flags."""
CANVAS = 128
"""Side of a stored picture, in pixels."""


@dataclass
class Material:
    """Pictures by class, as arrays ready for the augmentation."""

    images: np.ndarray
    """(n, CANVAS, CANVAS, 4) uint8, RGBA, centred, straight (not premultiplied) alpha."""
    label: np.ndarray
    """(n,) class of each picture."""
    artist: np.ndarray
    """(n,) small integer, one per artist: a pair should be drawn by two."""
    is_flag: np.ndarray
    """(classes,) whether the class is a flag: flags keep their layout and nearly their colours."""
    topic: np.ndarray
    """(classes,) small integer: classes of one topic are the hard negatives of each other."""
    names: list[str] = field(default_factory=list)
    """(classes,) for people."""


def gather(cache: Path) -> Material:
    """Draw everything, or read it back from `cache`."""
    saved = cache / "material.npz"
    if saved.exists():
        with np.load(saved) as file:
            arrays = dict(file)
        return Material(names=[str(n) for n in arrays.pop("names")], **arrays)
    drawn = _Drawn()
    _world(drawn, cache)
    _other_emoji(drawn, cache)
    _invented(drawn)
    material = drawn.material()
    np.savez(saved, **vars(material) | {"names": np.array(material.names)})
    return material


class _Drawn:
    def __init__(self) -> None:
        self.rows: list[tuple[Image.Image, int, str]] = []
        self.classes: list[tuple[str, bool, str]] = []

    def add(self, name: str, flag: bool, topic: str, by_artist: dict[str, Image.Image | None]) -> None:
        """Add a class with its drawings by artist, if at least two artists drew it."""
        found = {artist: picture for artist, picture in by_artist.items() if picture is not None}
        if len(found) < 2:  # nothing to compare
            return
        self.rows += [(picture, len(self.classes), artist) for artist, picture in found.items()]
        self.classes.append((name, flag, topic))

    def material(self) -> Material:
        """The drawings as arrays."""
        artists = {a: i for i, a in enumerate(sorted({artist for _, _, artist in self.rows}))}
        topics = {t: i for i, t in enumerate(sorted({topic for _, _, topic in self.classes}))}
        return Material(
            images=np.stack([_centred(picture) for picture, _, _ in self.rows]),
            label=np.array([label for _, label, _ in self.rows]),
            artist=np.array([artists[artist] for _, _, artist in self.rows]),
            is_flag=np.array([flag for _, flag, _ in self.classes]),
            topic=np.array([topics[topic] for _, _, topic in self.classes]),
            names=[name for name, _, _ in self.classes],
        )


def _centred(picture: Image.Image) -> np.ndarray:
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    canvas.paste(picture, ((CANVAS - picture.width) // 2, (CANVAS - picture.height) // 2))
    return np.asarray(canvas)


class _ExtraSets:
    """The two training-only artists; the second names its icons without separators."""

    def __init__(self, cache: Path) -> None:
        self._sets = {name: Iconify(Package(*package, cache)) for name, package in EXTRA_SETS.items()}

    def draw(self, code: str, name: str) -> dict[str, Image.Image | None]:
        """Drawings of an emoji by the two artists; None where one did not draw it."""
        from lensgraph.tools.local.world.making import rasterise

        drawn: dict[str, Image.Image | None] = {}
        for artist, icons in self._sets.items():
            known_as = name.replace("-", "").replace(" ", "") if artist == "fxemoji" else name
            found = icons.find(code, known_as)
            drawn[artist] = rasterise.svg(icons.svg(found)) if found else None
        return drawn


def _world(drawn: _Drawn, cache: Path) -> None:
    extra = _ExtraSets(cache)
    for entity in entities.select(split="train"):
        shipped = {r: renditions.load_rendition(entity.id, r) for r in ALLOWED if renditions.has(entity.id, r)}
        more = extra.draw(entity.codepoint.lower(), unicode_name(entity)) if entity.kind == "thing" else {}
        drawn.add(entity.name, entity.kind == "flag", entity.group or "flag", {**shipped, **more})


def _other_emoji(drawn: _Drawn, cache: Path) -> None:
    studio, extra = Studio(cache), _ExtraSets(cache)
    for code, row in Emoji(Package(*EMOJI, cache)).rows.items():
        gendered = code.endswith(("-2640", "-2642"))  # hardly told from the neutral one
        if row["group"] in (*GROUPS, "Flags") or gendered:
            continue
        by_artist = {artist: studio.emoji(artist, code, row["name"]) for artist in ("noto", "twemoji", "emojione")}
        drawn.add(row["name"], False, row["group"], {**by_artist, **extra.draw(code, row["name"])})


_PALETTE = [
    (200, 16, 46), (0, 56, 168), (255, 255, 255), (252, 209, 22), (0, 122, 61),
    (10, 10, 10), (255, 130, 0), (108, 172, 228), (128, 0, 32), (0, 30, 98),
]  # fmt: skip


def _invented(drawn: _Drawn) -> None:
    """Flags of no country: bands, crosses, triangles, cantons and emblems, in two palettes each."""
    random = np.random.default_rng(0)
    emblems = [row[0] for row in drawn.rows if not drawn.classes[row[1]][1]]
    for number in range(INVENTED_FLAGS):
        seed = int(random.integers(1 << 31))
        emblem = emblems[int(random.integers(len(emblems)))] if random.random() < 0.35 else None
        drawn.add(f"invented {number}", True, "flag", {f"painter {i}": _paint(seed, i, emblem) for i in (1, 2)})


def _paint(seed: int, painter: int, emblem: Image.Image | None) -> Image.Image:
    design, style = np.random.default_rng(seed), np.random.default_rng((seed, painter))
    shades = [tuple(int(np.clip(c + style.normal(0, 18), 0, 255)) for c in colour) for colour in _PALETTE]
    wide, high = 256, int((192, 160)[painter - 1] if style.random() < 0.5 else 176)
    order = list(design.permutation(len(_PALETTE)))
    first, second, third, fourth = (shades[i] for i in order[:4])
    flag = Image.new("RGB", (wide, high), first)
    pen = ImageDraw.Draw(flag)
    kind = int(design.integers(6))
    if kind in (0, 1):  # bands, across or down, of equal or unequal width
        edges = np.cumsum(np.array([(1, 1, 1), (1, 2, 1), (2, 1, 1), (1, 1, 0)][int(design.integers(4))], float))
        edges = edges / edges[-1]
        for start, end, colour in zip((0, *edges[:2]), edges, (first, second, third), strict=True):
            box = (0, start * high, wide, end * high) if kind == 0 else (start * wide, 0, end * wide, high)
            pen.rectangle(box, fill=colour)
    elif kind == 2:  # many stripes and a canton
        stripes = int(design.integers(5, 12))
        for i in range(1, stripes, 2):
            pen.rectangle((0, i * high / stripes, wide, (i + 1) * high / stripes), fill=second)
        pen.rectangle((0, 0, wide * 0.42, high * 0.5), fill=third)
    elif kind == 3:  # a cross, centred or Nordic
        x, width = (0.36 if design.random() < 0.6 else 0.5) * wide, high * design.uniform(0.1, 0.22)
        pen.rectangle((x - width / 2, 0, x + width / 2, high), fill=second)
        pen.rectangle((0, (high - width) / 2, wide, (high + width) / 2), fill=second)
    elif kind == 4:  # two bands and a triangle
        pen.rectangle((0, high / 2, wide, high), fill=second)
        pen.polygon(((0, 0), (wide * design.uniform(0.3, 0.55), high / 2), (0, high)), fill=third)
    else:  # a diagonal
        pen.polygon(((0, high), (wide, 0), (wide, high)), fill=second)
        pen.line(((0, high), (wide, 0)), fill=third, width=int(high * design.uniform(0.08, 0.25)))
    x, y = (design.choice([0.21, 0.5, 0.5]) * wide, design.choice([0.25, 0.5, 0.5]) * high)
    size = high * design.uniform(0.14, 0.3)
    mark = int(design.integers(4))
    if emblem is not None:
        small = emblem.resize((int(size * 2), int(size * 2)))
        flag.paste(small, (int(x - size), int(y - size)), small)
    elif mark == 0:
        pen.ellipse((x - size, y - size, x + size, y + size), fill=fourth)
    elif mark == 1:
        turns = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = size * np.where(np.arange(10) % 2, 0.4, 1.0)
        pen.polygon([(x + r * np.cos(t), y + r * np.sin(t)) for r, t in zip(radii, turns, strict=True)], fill=fourth)
    elif mark == 2:
        pen.ellipse((x - size, y - size, x + size, y + size), fill=fourth)
        cut = size * 0.8
        pen.ellipse((x - cut * 0.6, y - cut, x + cut * 1.4, y + cut), fill=flag.getpixel((2, 2)))
    flag.thumbnail((CANVAS, CANVAS))
    return flag.convert("RGBA")
